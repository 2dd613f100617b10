"""The routes of pages: each page and its actions, within the frame and the rules of the admin side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from markupsafe import Markup
from twisted.logger import Logger

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.errors import PluginError
from stackit.api.faults import FaultDescriber
from stackit.api.pages import NOTHING, Action, Done, Page, PageError, PageRequest, Panel, View
from stackit.api.reactor import Reactor
from stackit.bus.timeouts import call as call_foreign
from stackit.bus.timeouts import with_timeout
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted
from stackit.web.codec import encode_body
from stackit.web.pages.frame import framed, problem_view
from stackit.web.pages.notices import Notice, Notices
from stackit.web.pages.overview import overview
from stackit.web.pages.static_files import static_routes

_NOTICE = "notice"
_log = Logger(namespace="stackit")


class Pages:
    """The overview, the pages that are given, and what they look like."""

    def __init__(
        self,
        items: Iterable[Page | Panel],
        *,
        reactor: Reactor,
        now: Callable[[], float],
        prefix: str,
        call: Callable[..., Awaitable[Response]],
        redact: Redact = redacted,
        read_only: Callable[[], bool] = lambda: False,
    ) -> None:
        """``prefix`` is the path below which the API is, ``call`` asks it as ``Admin.call`` does.

        Raises PluginError for a page whose path cannot be one.
        """
        items = list(items)
        panels = [each for each in items if isinstance(each, Panel)]
        self._faults = FaultDescriber(redact)
        self._pages = [
            overview(panels, partial(_panel_body, reactor, self._faults)),
            *(each for each in items if isinstance(each, Page)),
        ]
        for each in self._pages:
            _check(each)
        self._read_only = read_only
        self._menu = [(each.nav, each.path) for each in self._pages if each.nav is not None]
        self._now = now
        self._prefix = prefix
        self._call = call
        self._reactor = reactor
        self._notices = Notices()

    def routes(self) -> list[Route]:
        """Return the routes of all pages, of their actions, and of static files."""
        return [*static_routes(), *(route for page in self._pages for route in self._routes(page))]

    def problem(self, asked: AdminRequest | None, status: int, text: str) -> Response:
        """Return a page that says why a request was refused, or is of no use.

        ``asked`` is that request; None if the one who asks may not even look, and gets no menu.
        """
        if asked is None:
            nobody = AdminRequest(method="GET", path="/", args={}, query={}, body=b"", role="viewer")
            return framed(self._request(nobody), problem_view(status, text))
        return framed(self._request(asked), problem_view(status, text), menu=self._menu)

    def _routes(self, page: Page) -> list[Route]:
        """Return the route of a page, and one for each of its actions."""
        base = page.path.rstrip("/")
        show = Route("GET", page.path, partial(self._show, page), plugin=page.plugin, summary=f"Show {page.title}.")
        actions = [
            Route(
                "POST",
                f"{base}/{name}",
                partial(self._act, page, action),
                plugin=page.plugin,
                form=True,
                summary=f"Do {name} on the page {page.title}.",
            )
            for name, action in page.actions.items()
        ]
        return [show, *actions]

    async def _show(self, page: Page, asked: AdminRequest) -> Response:
        request = self._request(asked)
        notice = self._notices.take(asked.query.get(_NOTICE, ""))
        shown = await self._outcome(page, page.show, request)
        if isinstance(shown, Response):
            return shown
        if isinstance(shown, PageError):
            view = problem_view(shown.status, str(shown))
        else:
            view = shown if isinstance(shown, View) else View(body=Markup(shown))  # noqa: S704 - HTML already
        return framed(request, view, title=page.title, menu=self._menu, here=self._here(page), notice=notice)

    async def _act(self, page: Page, action: Action, asked: AdminRequest) -> Response:
        request = self._request(asked)
        done = await self._outcome(page, action, request)
        if isinstance(done, PageError):
            notice, path = Notice(str(done), "bad"), ""
        else:
            end = done if isinstance(done, Done) else Done(str(done))
            notice, path = Notice(end.notice), end.path
        path = path or page.path.format_map({name: quote(value, safe="") for name, value in asked.args.items()})
        return Response(status=303, headers={"Location": f"{path}?{urlencode({_NOTICE: self._notices.keep(notice)})}"})

    async def _outcome(self, page: Page, function: Callable[[PageRequest], Any], request: PageRequest) -> Any:
        """Return what a function of a page returns, or a PageError. The log has what else it raised."""
        try:
            return await with_timeout(self._reactor, call_foreign(function, request), 0)
        except PageError as problem:
            return problem
        except Exception as problem:  # noqa: BLE001 - foreign code: the log says what it raised
            _log_fault(self._faults, page.plugin, f"page {page.path}", problem)
            return PageError(500, "This failed inside stackit. The log says why.")

    def _request(self, asked: AdminRequest) -> PageRequest:
        async def api(method: str, path: str, *, query: Any = NOTHING, body: object = None) -> Response:
            encoded = b"" if body is None else encode_body(body)
            response = await self._call(asked, method, quote(path, safe="/"), query=query, body=encoded)
            plain = response.body if isinstance(response.body, bytes) else msgspec.to_builtins(response.body)
            return msgspec.structs.replace(response, body=plain)

        return PageRequest(
            path=asked.path,
            args=asked.args,
            query={name: value for name, value in asked.query.items() if value and name != _NOTICE},
            form=asked.form,
            by=asked.by,
            role=asked.role,
            csrf=asked.csrf,
            read_only=self._read_only(),
            now=self._now(),
            prefix=self._prefix,
            api=api,
        )

    def _here(self, page: Page) -> str:
        """Return the path of the entry of the menu that a page is, or is below."""
        above = [path for _, path in self._menu if page.path == path or page.path.startswith(f"{path.rstrip('/')}/")]
        return max(above, key=len, default="")


async def _panel_body(reactor: Reactor, faults: FaultDescriber, panel: Panel, request: PageRequest) -> Markup | None:
    """Return the HTML of a panel; None for one that failed, or that takes too long. The log says why."""
    try:
        shown = await with_timeout(reactor, call_foreign(panel.show, request), 2.0)
    except Exception as problem:  # noqa: BLE001 - foreign code: the overview goes on without it
        _log_fault(faults, panel.plugin, f"panel {panel.title}", problem)
        return None
    return shown.body if isinstance(shown, View) else Markup(shown)  # noqa: S704 - HTML already


def _log_fault(faults: FaultDescriber, plugin: str | None, where: str, problem: Exception) -> None:
    fault = faults.describe(problem)
    whose = f"plugin {plugin}: " if plugin else ""
    _log.error(
        "{whose}{where} failed: {problem}", whose=whose, where=where, problem=fault.error, traceback=fault.new_traceback
    )


def _check(page: Page) -> None:
    if not page.path.startswith("/") or "{prefix}" in page.path:
        raise PluginError(page.plugin or "stackit", f"page {page.path}: the path must begin with /, without {{prefix}}")
