"""Streams of the admin side: each ends when the one who asked for it has other rights, or none."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.internet.base import DelayedCall

from stackit.api.admin import BodyStream, RequestHead, Response, Role
from stackit.api.reactor import Timers

CHECK_EVERY = 5.0
"""Seconds between two looks at the rights of those who read streams."""


class Streams:
    """The streams that are open. ``role_of`` returns what the sender of a request may do now, None for nothing."""

    def __init__(self, reactor: Timers, role_of: Callable[[RequestHead], Role | None]) -> None:
        self._reactor = reactor
        self._role_of = role_of
        self._open: dict[BodyStream, tuple[RequestHead, Role | None]] = {}
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
        """End the streams of those with other rights now: a token was revoked, a session ended, a role changed."""
        for stream, (head, role) in tuple(self._open.items()):
            if self._role_of(head) != role:
                stream.finish()

    def _add(self, stream: BodyStream, head: RequestHead) -> None:
        self._open[stream] = (head, self._role_of(head))
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
