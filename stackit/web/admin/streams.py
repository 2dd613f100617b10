"""Streams of the admin side: each ends when the one who asked for it may not look any more."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.base import DelayedCall

from stackit.api.admin import BodyStream, RequestHead, Response
from stackit.api.reactor import Timers

CHECK_EVERY = 5.0
"""Seconds between two looks at the rights of those who read streams."""


class Streams:
    """The streams that are open. ``may_look`` tells by the head of a request whether it would be answered now."""

    def __init__(self, reactor: Timers, may_look: Callable[[RequestHead], bool]) -> None:
        self._reactor = reactor
        self._may_look = may_look
        self._open: dict[BodyStream, RequestHead] = {}
        self._timer: DelayedCall | None = None

    def watched(self, head: RequestHead, response: Response) -> Response:
        """Return the answer to a request, with its stream watched if it has one."""
        begin = response.stream
        if begin is None:
            return response

        def write(stream: BodyStream) -> None:
            self._add(stream, head)
            begin(stream)

        return msgspec.structs.replace(response, stream=write)

    def check(self) -> None:
        """End the streams of those who may not look any more: a token was revoked, or a session has ended."""
        for stream, head in tuple(self._open.items()):
            if not self._may_look(head):
                stream.finish()

    def _add(self, stream: BodyStream, head: RequestHead) -> None:
        self._open[stream] = head
        stream.when_ended(lambda _: self._remove(stream))
        if self._timer is None:
            self._timer = self._reactor.callLater(CHECK_EVERY, self._check_again)

    def _remove(self, stream: BodyStream) -> None:
        self._open.pop(stream, None)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_again(self) -> None:
        self._timer = self._reactor.callLater(CHECK_EVERY, self._check_again)
        self.check()
