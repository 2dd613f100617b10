"""Affinity: secrets of which one node of the fleet knows what they are for, and by which the others find that node."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable

import msgspec

from stackit.api.admin import AdminRequest, Response
from stackit.api.nodes import Node, Nodes
from stackit.peers.claims import is_same


class NodeAffinity:
    """The ``Affinity`` of a fleet. ``ask`` asks another node, ``prefix`` is that of the API.

    A mark is a MAC of the purpose, of the name of the node and of the secret: it does not tell the name, and nobody but
    a node can make one, so a stranger has no node asked; what is given to anybody for one purpose has none asked for
    another. It stands for no process: one that takes its place does not know the secret.
    """

    def __init__(
        self,
        key: bytes,
        *,
        nodes: Nodes,
        ask: Callable[[Node, AdminRequest], Awaitable[Response]],
        prefix: str,
    ) -> None:
        self._key = key
        self._nodes = nodes
        self._ask = ask
        self._prefix = prefix

    def mark(self, purpose: str, secret: str) -> str:
        """Return a secret with the mark of this node for a purpose."""
        return f"{secret}.{self._mark(purpose, self._nodes.here, secret)}"

    def elsewhere(self, purpose: str, marked: str) -> Node | None:
        """Return the other node that marked a secret for a purpose; None where this one did, or none of the fleet."""
        secret, _, mark = marked.rpartition(".")
        if secret:
            for node in self._nodes.nodes():
                if node.name != self._nodes.here and is_same(mark, self._mark(purpose, node.name, secret)):
                    return node
        return None

    async def ask(self, node: Node, path: str, question: msgspec.Struct, request: AdminRequest) -> bytes | None:
        """Return what a node answers to a question that nodes alone may ask; None where it gives no answer.

        ``path`` is without its prefix, ``request`` what is asked here.
        """
        if node.state == "away":
            return None
        asked = AdminRequest(
            method="POST",
            path=f"{self._prefix}{path}",
            args={},
            query={},
            body=msgspec.json.encode(question),
            by=request.by,
            role="viewer",
            client=request.client,
        )
        answer = await self._ask(node, asked)
        return answer.body if answer.status == 200 and isinstance(answer.body, bytes) else None

    def _mark(self, purpose: str, node: str, secret: str) -> str:
        about = f"{purpose}\n{node}\n{secret}".encode("utf-8", "surrogatepass")
        return urlsafe_b64encode(hmac.digest(self._key, about, "sha256")).rstrip(b"=").decode()
