"""The pretend GitHub over HTTP: git below ``/OWNER/NAME.git``, the API at the root and below ``/api/v3``."""

from __future__ import annotations

import gzip
import secrets
from urllib.parse import parse_qsl

import msgspec
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from stackit.api.reactor import Reactor
from stackit.testing.faults import send
from stackit.testing.github_api.answers import ANONYMOUS, ApiAnswer, ApiRequest
from stackit.testing.github_api.api import PretendApi
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.transmission import transmit
from stackit.testing.smarthttp import SmartHttp

BASE = "/api/v3"
"""The base path of the API on GitHub Enterprise Server; on github.com it has none."""

_GIT = ("/info/refs", "/git-upload-pack", "/git-receive-pack")


class GitHubSite(Resource):
    """The root: git's requests go to git, all others to the API. Every answer has the date of GitHub's clock."""

    isLeaf = True

    def __init__(self, reactor: Reactor, git: SmartHttp, api: PretendApi, clock: SettableClock) -> None:
        Resource.__init__(self)
        self._reactor = reactor
        self._git = git
        self._api = api
        self._clock = clock
        self._answering: set[Deferred[None]] = set()
        self._log = Logger()

    async def stop(self) -> None:
        """End every answer in progress."""
        await self._git.stop()
        for answering in list(self._answering):
            answering.cancel()
        await gatherResults(list(self._answering))

    def render(self, request: Request) -> int:
        request.responseHeaders.setRawHeaders(b"date", [datetimeToString(self._clock.now())])
        if request.path.decode("latin-1").endswith(_GIT):
            return self._git.render(request)
        answering = Deferred.fromCoroutine(self._answer(request))
        self._answering.add(answering)
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(self._failed, request).addBoth(lambda _: self._answering.discard(answering))
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("The pretend GitHub could not answer", failure)
            asked = f"{request.method.decode('latin-1')} {request.path.decode('latin-1')}"
            self._api.refusals.append(f"{asked}: {failure.getErrorMessage()}")
            request.loseConnection()

    async def _answer(self, http: Request) -> None:
        uri = http.uri.decode("latin-1")
        under_base = uri.startswith(f"{BASE}/") or uri == BASE
        uri = uri.removeprefix(BASE) if under_base else uri
        method = http.method.decode("latin-1")
        path, _, query = uri.partition("?")
        found = self._api.router.find(method, path, web=not under_base)
        site = f"http://{http.requestHeaders.getRawHeaders('host', [''])[0]}"
        request = ApiRequest(
            method=method,
            path=path,
            route=found[0].template if found else "",
            parameters=found[1] if found else {},
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers={
                name.decode("latin-1").lower(): values[-1].decode("latin-1")
                for name, values in http.requestHeaders.getAllRawHeaders()
            },
            body=http.content.read() if http.content is not None else b"",
            site_url=site,
            api_url=site + (BASE if under_base else ""),
            caller=ANONYMOUS,
        )
        await self._send(http, await self._api.answer(request, uri, found[0] if found else None))

    async def _send(self, http: Request, answer: ApiAnswer) -> None:
        body = answer.body if isinstance(answer.body, bytes) else b""
        if answer.body is not None and not isinstance(answer.body, bytes):
            body = msgspec.json.encode(answer.body)
        headers = {"Content-Type": answer.content_type, "X-GitHub-Request-Id": secrets.token_hex(8), **answer.headers}
        if body and "gzip" in str(http.requestHeaders.getRawHeaders("accept-encoding", [""])[0]):
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        if answer.transmission is None:
            send(http, answer.status, body, headers)
        else:
            await transmit(answer.transmission, self._reactor, http, answer.status, headers, body)
