"""The other nodes of a fleet, as the admin side knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stackit.api.admin import AdminRequest, RequestHead, Response, Route
from stackit.api.nodes import Node


class Peers(Protocol):
    """Finds the node that answers a request, asks it, and lets in what other nodes ask."""

    def is_from_node(self, head: RequestHead) -> bool:
        """Return whether a request is another node's, as it says itself."""

    def refusal(self, head: RequestHead) -> Response | None:
        """Return the answer that refuses a node's request by its head; None for one whose body may come."""

    def admit(self, head: RequestHead, query: bytes, body: bytes) -> AdminRequest | Response:
        """Return the request of the person for whom a node asks, without ``args``; or the answer that refuses it."""

    def prove(self, head: RequestHead, response: Response) -> Response:
        """Return an encoded answer to a node with the proof of who gives it."""

    def moved(self, route: Route, args: Mapping[str, str]) -> Response | None:
        """Return the answer to a node that asks for what is not here; None for what is."""

    def elsewhere(self, route: Route, args: Mapping[str, str]) -> Node | Response | None:
        """Return the node that has to answer a request; None for this one, an answer where there is none."""

    async def ask(self, node: Node, request: AdminRequest) -> Response:
        """Return the answer of a node, not encoded. Never raises."""

    def redirect(self, node: Node, path: str, query: bytes) -> Response | None:
        """Return the answer that sends a client to a node; None where its request is forwarded."""
