"""A request of a public listener: its body is measured as it streams, and kept only where it is wanted."""

from __future__ import annotations

import traceback
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.error import UnsupportedMethod
from twisted.web.http_headers import Headers

from stackit.errors import describe
from stackit.requests import RequestHead, Response
from stackit.web import answers
from stackit.web.answers import Refusal

if TYPE_CHECKING:
    from stackit.web.connection import Connection
    from stackit.web.site import PublicSite

SMALL_BODY = 64 * 2**10
"""Bytes of body that a resource gets which does not say how much it wants."""

_log = Logger(namespace="stackit")


class Upload(Protocol):
    """What a resource makes of a body that it lets in.

    At most ``limit`` bytes are let in; each piece goes to ``update``, and the pieces are also
    kept, to be read from ``request.content``, if ``keep``.
    """

    limit: int
    keep: bool

    def update(self, chunk: bytes) -> None: ...


@runtime_checkable
class Bouncer(Protocol):
    """A resource that sees the head of a request before the body is read."""

    def begin(self, head: RequestHead, length: int | None) -> Upload | Refusal:
        """``length`` is that of the body in bytes: None where the head does not tell, 0 for no body."""


class SmallUpload:
    """A small body, kept as it is."""

    limit = SMALL_BODY
    keep = True

    def update(self, chunk: bytes) -> None:
        """Nothing: the bytes are kept."""


_Request: Any = server.Request  # twisted.web's own annotations are too few for a strict check


class BoundedRequest(_Request):  # type: ignore[misc]
    """``head`` is the request's head; ``upload`` what the resource returned from ``begin``."""

    channel: Connection
    site: PublicSite
    resource: Any
    head: RequestHead
    upload: Upload
    defaultContentType = None

    _refusal: Refusal | None = None
    _size = 0

    def parseCookies(self) -> None:
        """Nothing: there are none."""

    def gotLength(self, length: int | None) -> None:
        """The head is here: decide whether the body may come."""
        channel = self.channel
        self.site = channel.site
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version  # noqa: SLF001
        self.path = self.uri.partition(b"?")[0]
        self.head = channel.head = RequestHead(
            client=channel.address,
            method=self.method,
            path=self.path,
            headers={name.lower(): tuple(values) for name, values in self.requestHeaders.getAllRawHeaders()},
        )
        self.content = BytesIO()
        self.resource = self.site.getResourceFor(self)
        try:
            begun = self._begin(length)
        except Exception:  # noqa: BLE001 - whatever a resource does wrong is the end of this request alone
            _log_fault(Failure())
            channel.say(Refusal("failed", answers.FAILED))
            return
        if not isinstance(begun, Refusal):
            self.upload = begun
        elif length == 0:
            self._refusal = begun  # nothing more to come: it is answered in its turn, and the connection lives on
        else:
            channel.refuse(begun)

    def _begin(self, length: int | None) -> Upload | Refusal:
        if self.resource is None:
            return answers.NOT_FOUND
        if isinstance(self.resource, Bouncer):
            return self.resource.begin(self.head, length)
        return answers.TOO_LARGE if length is not None and length > SMALL_BODY else SmallUpload()

    def handleContentChunk(self, data: bytes) -> None:
        if self.channel is None or self.channel.ended:
            return
        self._size += len(data)
        if self._size > self.upload.limit:
            self.channel.refuse(answers.TOO_LARGE)
            return
        self.upload.update(data)
        if self.upload.keep:
            self.content.write(data)
            self.site.crowd.hold(self.channel, len(data))

    def forget(self) -> None:
        """Let go of the body: the request was turned away."""
        if self.content is not None:
            self.content.close()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.channel.arrived()
        super().requestReceived(command, path, version)

    def process(self) -> None:
        try:
            if self._refusal is not None:
                self.site.refused(self.head.client, self.head, self._refusal)
                self.answer(self._refusal.response)
                return
            body = self.resource.render(self)
            if body is not server.NOT_DONE_YET:
                self.setHeader(b"Content-Length", b"%d" % len(body))
                self.write(body)
                self.finish()
        except UnsupportedMethod as problem:
            refusal = answers.method(b", ".join(sorted(problem.allowedMethods)).decode("latin-1"))
            self.site.refused(self.head.client, self.head, refusal)
            self.answer(refusal.response)
        except Exception:  # noqa: BLE001 - whatever a resource does wrong is the end of this request alone
            self.processingFailed(Failure())

    def answer(self, response: Response) -> None:
        """Answer the request; nothing happens where the peer is gone."""
        if self._disconnected or self.finished:
            return
        headers, body = answers.fields(response)
        self.setResponseCode(response.status)
        for name, value in headers:
            self.responseHeaders.addRawHeader(name, value)
        self.write(body)
        self.finish()

    def processingFailed(self, reason: Failure) -> Failure:
        """One line in the log, and a 500 that says nothing, if nothing was said before."""
        _log_fault(reason)
        if self._disconnected or self.finished:
            return reason
        if self.startedWriting:
            self.channel.drop(abort=True)
        else:
            self.responseHeaders = Headers()
            self.answer(answers.FAILED)
        return reason


def _log_fault(reason: Failure) -> None:
    frames = traceback.extract_tb(reason.getTracebackObject())
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    _log.error("a request failed: {problem}{where}", problem=describe(reason.value), where=where)


def request_factory(*arguments: Any) -> BoundedRequest:
    """What the site makes requests with: forms are never parsed before a resource has seen the signature."""
    return BoundedRequest(*arguments, parsePOSTFormSubmission=False)
