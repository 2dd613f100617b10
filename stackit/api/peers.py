"""What other nodes of a fleet have: mirrors, as remotes to fetch from, and what people began there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.nodes import Node
from stackit.api.repos import ManagedRepo

_BURST, _PER_MINUTE = 60, 240
"""Questions of one address that other nodes are asked: a shell asks one every few seconds."""

CopyAt: TypeAlias = Callable[[ManagedRepo, Node], ManagedRepo | None]
"""Returns a managed repository whose remote is the mirror that another node has, all refs of it; None where that cannot
be reached. Its URL and its token, which is made anew for each use, are for this repository and that node alone."""


def no_copies(_managed: ManagedRepo, _node: Node) -> ManagedRepo | None:
    """Return None: there is no other node."""
    return None


class Affinity(Protocol):
    """Secrets of which one node knows what they are for: who has one may come to any other, which asks that one.

    Each is marked for one purpose (``login``), and serves no other.
    """

    def mark(self, purpose: str, secret: str) -> str:
        """Return a secret with the mark of this node for a purpose."""

    def elsewhere(self, purpose: str, marked: str) -> Node | None:
        """Return the other node that marked a secret for a purpose; None where this one did, or none of the fleet."""

    async def ask(self, node: Node, path: str, question: msgspec.Struct, request: AdminRequest) -> bytes | None:
        """Return what a node answers to a question that nodes alone may ask; None where it gives no answer.

        ``path`` is without its prefix, ``request`` what is asked here.
        """


Question = TypeVar("Question", bound=msgspec.Struct)
Answer = TypeVar("Answer")


class NodeQuestion(Generic[Question, Answer]):
    """A question that nodes alone may ask each other: the route at the one that knows, and the way there.

    ``tell(question, request)`` answers it there, or returns a Response in place of an answer. Anybody may be behind a
    question: ask ``wait`` before ``ask``.
    """

    def __init__(
        self,
        path: str,
        question: type[Question],
        answer: Any,
        tell: Callable[[Question, AdminRequest], Awaitable[Answer | Response]],
        *,
        summary: str,
        seconds: Callable[[], float],
    ) -> None:
        """``path`` is behind a prefix of the API; ``question`` and ``answer`` are the types of both.

        ``summary`` is of the route, for its description. ``seconds`` is a clock that never runs backwards.
        """
        self._path = path
        self._question = question
        self._answer = answer
        self._tell = tell
        self._summary = summary
        self._limiter = AddressLimiter(seconds, burst=_BURST, per_minute=_PER_MINUTE, counted="questions")

    def route(self) -> Route:
        """Return the route by which other nodes ask."""
        return Route(
            "POST",
            f"{{prefix}}{self._path}",
            self._handle,
            query=(),
            role="viewer",
            when_read_only=True,
            summary=self._summary,
            body=self._question,
            returns=self._answer,
            errors={403: "Nodes alone may ask."},
        )

    def wait(self, request: AdminRequest) -> Response | None:
        """Count a question of an address; return the answer to one that has to wait before it asks again."""
        return self._limiter.admit(request.client)

    async def ask(self, affinity: Affinity, node: Node, question: Question, request: AdminRequest) -> Answer | None:
        """Return what a node answers; None where it gives none that is understood here."""
        answered = await affinity.ask(node, self._path, question, request)
        try:
            answer: Answer | None = None if answered is None else msgspec.json.decode(answered, type=self._answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # of another version
        return answer

    async def _handle(self, request: AdminRequest) -> Response:
        if not request.via_node:
            return error(403, "only the nodes of the fleet ask each other this")
        try:
            question = msgspec.json.decode(request.body, type=self._question)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return error(400, "this is of another version of stackit")
        answer = await self._tell(question, request)
        return answer if isinstance(answer, Response) else Response(body=msgspec.to_builtins(answer))


class NoAffinity:
    """The ``Affinity`` without a fleet: all is here, and no secret needs a mark."""

    def mark(self, purpose: str, secret: str) -> str:  # noqa: ARG002 - there is no other node
        """Return the secret as it is."""
        return secret

    def elsewhere(self, purpose: str, marked: str) -> Node | None:  # noqa: ARG002 - there is no other node
        """Return None."""
        return None

    async def ask(
        self,
        node: Node,  # noqa: ARG002 - there is nobody to ask
        path: str,  # noqa: ARG002 - there is nobody to ask
        question: msgspec.Struct,  # noqa: ARG002 - there is nobody to ask
        request: AdminRequest,  # noqa: ARG002 - there is nobody to ask
    ) -> bytes | None:
        """Return None."""
        return None
