"""A real browser beside the reactor: Debian's Chromium, driven from a thread of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from axe_playwright_python.sync_playwright import Axe
from login_app import meet, members, tables
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright, Request, ViewportSize, sync_playwright
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from stackit.testing import PretendGitHub, RunningStackit
from stackit.testing.github_api.apps import PretendApp

PATIENCE = 60_000
"""Milliseconds that the browser waits for something to appear before a test fails."""

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_SHIFTS = """
window.layoutShift = 0;
window.layoutShifts = [];
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    window.layoutShift += entry.value;
    for (const source of entry.sources) {
      if (source.node) window.layoutShifts.push((source.node.outerHTML || source.node.textContent).slice(0, 120));
    }
  }
}).observe({type: "layout-shift", buffered: true});
"""
_PHONE: ViewportSize = {"width": 390, "height": 844}
_DESK: ViewportSize = {"width": 1280, "height": 900}

T = TypeVar("T")


class Browser:
    """A Chromium. Its calls block, so ``run`` makes them in the one thread that it lives in.

    The reactor goes on meanwhile: a pretend GitHub in this process can be asked by what the browser looks at.
    """

    def __init__(self) -> None:
        self._pool = ThreadPool(1, 1, "browser")
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None

    async def start(self) -> None:
        """Start the browser."""
        self._pool.start()
        await self.run(self._start)

    async def run(self, function: Callable[..., T], *args: Any, **settings: Any) -> T:
        """Return what the function returns, called in the thread of the browser. Raises what it raises."""
        return await deferToThreadPool(reactor, self._pool, function, *args, **settings)

    async def window(self, **settings: Any) -> Window:
        """Return a new window with no cookies. The settings are those of ``Window``."""
        return await self.run(self._open, **settings)

    async def stop(self) -> None:
        """End the browser and its thread."""
        await self.run(self._stop)
        self._pool.stop()

    def _start(self) -> None:
        program = shutil.which("chromium")
        assert program is not None, "there is no chromium: apt install chromium"
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=program, args=_FLAGS)

    def _open(self, **settings: Any) -> Window:
        assert self._chromium is not None
        return Window(self._chromium, **settings)

    def _stop(self) -> None:
        if self._chromium is not None:
            self._chromium.close()
        if self._playwright is not None:
            self._playwright.stop()


class Window:
    """One window: its page, and what went wrong in it. All but ``problems`` is for the browser's thread.

    ``problems`` are lines: errors on the console (a broken content security policy is one), exceptions of scripts, and
    requests to another host.
    """

    def __init__(
        self,
        chromium: Chromium,
        *,
        scheme: str = "light",
        phone: bool = False,
        script: bool = True,
        refusals: bool = False,
    ) -> None:
        """``script`` is whether the browser has JavaScript; with ``refusals`` a page may be answered by an error."""
        self.problems: list[str] = []
        self._refusals = refusals
        self._context: BrowserContext = chromium.new_context(
            viewport=_PHONE if phone else _DESK,
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=script,
            reduced_motion="reduce",
            timezone_id="UTC",
            locale="en-GB",
        )
        self._context.set_default_timeout(PATIENCE)
        if script:
            self._context.add_init_script(_SHIFTS)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda failure: self.problems.append(f"script: {failure}"))
        self.page.on("request", self._on_request)

    def log_in(self, url: str) -> None:
        """Log in by the API token, on the way to the overview."""
        self.page.goto(url)
        self.page.get_by_label("API token").fill(TOKEN)
        self.page.get_by_role("button", name="Log in", exact=True).click()
        self.page.wait_for_url(f"{url}/")

    def tab_to(self, name: str, role: str = "link") -> None:
        """Move the focus forward by the keyboard until it is on what has this role and name."""
        wanted = self.page.get_by_role(role, name=name, exact=True).first  # type: ignore[arg-type,unused-ignore]
        wanted.wait_for()
        for _ in range(80):
            self.page.keyboard.press("Tab")
            if wanted.evaluate("each => each === document.activeElement"):
                return
        raise AssertionError(f"the keyboard does not reach {name}")

    def shifts(self) -> list[str]:
        """Return the beginnings of the elements that moved without anybody having asked for it."""
        return list(self.page.evaluate("window.layoutShifts"))

    def violations(self) -> list[str]:
        """Return what axe finds, a line each: the rule, and the elements that break it."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {[node['html'][:160] for node in each['nodes']][:5]}" for each in found]

    def screenshot(self, path: Path) -> None:
        """Write what is on the screen to a file, as PNG."""
        self.page.screenshot(path=path, animations="disabled", caret="hide")

    def close(self) -> None:
        """Close the window, and forget its cookies."""
        self._context.close()

    def _on_console(self, message: ConsoleMessage) -> None:
        if self._refusals and message.text.startswith("Failed to load resource: the server responded with"):
            return
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        host = request.url.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0]
        if request.url.startswith("http") and host not in ("127.0.0.1", "localhost"):
            self.problems.append(f"request to another host: {request.url}")


TOKEN = "a-token-of-an-operator-32-characters"
HOSTILE = "refs/heads/<script>alert(1)</script>\u202e"
DEPLOY = """
from pathlib import Path
from stackit import Permanent, on

@on("issues")
def deploy(event):
    if not Path(__file__).with_name("works").exists():
        raise Permanent("<script>alert(2)</script> no such place")
"""


class Place(msgspec.Struct, eq=False):
    """A stackit to look at, beside its GitHub. A dead letter of ``deploy`` can be replayed once ``mend`` was called."""

    server: RunningStackit
    github: PretendGitHub
    app: PretendApp
    directory: Path

    @property
    def url(self) -> str:
        """The URL of the admin side, without a path."""
        return self.server.admin_url

    def mend(self) -> None:
        """Have the handler ``deploy`` work from now on."""
        (self.directory / "works").touch()

    async def push(self, repo: str = "octo/widget") -> str:
        """Push to a repository, and deliver that. Return GitHub's id of the delivery."""
        sent = await self.github.push(repo)
        assert sent.status == 202
        return sent.guid


async def settled(running_stackit: Any, github: PretendGitHub, directory: Path) -> Place:
    """Return a stackit that people log in to, with mirrors in step, and a dead letter with a hostile error."""
    app = members(github, ["organization", "membership", "team"])
    await app.install("octo")
    urls = {}
    for name in ("octo/widget", "octo/gadget"):
        urls[name] = await github.create(name)
        moved = await github.commit(name)
        await github.set_ref(name, HOSTILE, moved.after)
    (directory / "deploy.py").write_text(DEPLOY)
    server = await running_stackit(
        config={
            **tables(directory, github, app),
            "sync": {"interval": "5m"},
            "repos": [{"name": name, "url": url} for name, url in urls.items()],
            "plugins": {"deploy": {"file": str(directory / "deploy.py")}},
        },
        environment={"STACKIT_API_TOKEN": TOKEN},
    )
    meet(github, app, server)
    github.webhook(server.webhook_url, server.secret or "")
    place = Place(server, github, app, directory)

    async def in_step() -> bool:
        found = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        return all(each["state"] == "in_step" for each in found)

    await server.until(in_step, "the mirrors to be in step")
    await server.deliver("issues", guid="broken")
    await server.wait_for("broken", "dead")
    return place
