"""The gate for requests of other nodes: each is of this fleet, for this process, of now, and let in once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackit.api.admin import AdminRequest, RequestHead, Response, error
from stackit.peers.answers import INCARNATION, PROOF, REFUSAL, canonical
from stackit.peers.claims import SCHEME, Claims, Keys, digest_of, is_same
from stackit.peers.nonces import UsedNonces
from stackit.web.codec import parse_query

SKEW = 60.0
"""Seconds by which the clocks of two nodes may differ, the time that a request takes included."""


class Gate:
    """Lets in requests of other nodes.

    ``here`` is the name of this node, ``incarnation`` returns that of this process, None while it has none. ``now`` is
    the wall clock, ``seconds`` one that never runs backwards.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        here: str,
        incarnation: Callable[[], int | None],
        now: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._here = here
        self._incarnation = incarnation
        self._now = now
        self._used = UsedNonces(seconds, 3 * SKEW)

    def is_from_node(self, head: RequestHead) -> bool:
        """Return whether a request is another node's, as it says itself."""
        return _authorization(head).partition(b" ")[0].lower() == SCHEME.encode()

    def refusal(self, head: RequestHead) -> Response | None:
        """Return the answer that refuses a request by its head; None for one whose body may come."""
        claims = self._claims(head)
        if claims is None:
            return error(401, "this is not of a node of this fleet, as far as this node knows its key")
        if claims.to != self._here:
            return _refused(421, "name", f"the address of node {claims.to} leads to node {self._here}")
        here = self._incarnation()
        if not here:
            return _refused(503, "outside", "it is out of the fleet for the moment: its /readyz says why")
        if claims.incarnation != here:
            refused = _refused(421, "incarnation", "this is for another incarnation of this node")
            return msgspec.structs.replace(refused, headers={**refused.headers, INCARNATION: str(here)})
        apart = abs(self._now() - claims.at)
        if apart > SKEW:
            return _refused(401, "clock", f"the clocks of {claims.node} and of this node are {apart:.0f} s apart")
        if claims.method.encode() != head.method or not is_same(digest_of(head.path), claims.path):
            return _refused(401, "used", "this was said of another request")
        if claims.once in self._used:
            return _refused(401, "used", "this request was here before")
        return None

    def admit(self, head: RequestHead, query: bytes, body: bytes) -> AdminRequest | Response:
        """Return the request of the person for whom another node asks; the answer that refuses it, if it is none.

        Its ``args`` are still to be found. It can be admitted once.
        """
        refused = self.refusal(head)
        claims = self._claims(head)
        if refused is not None or claims is None:
            return refused or error(401, "this is not of a node of this fleet")
        if not (is_same(digest_of(query), claims.query) and is_same(digest_of(body), claims.body)):
            return _refused(401, "used", "this was said of another request")
        if not self._used.add(claims.once):
            return _refused(401, "used", "this request was here before")
        return AdminRequest(
            method=claims.method,
            path=head.path.decode("latin-1"),
            args={},
            query=parse_query(query),
            body=body,
            by=claims.by,
            role=claims.role,
            client=claims.client,
            session=claims.session,
            last_event_id=claims.last_event_id,
            via_node=claims.node,
        )

    def prove(self, head: RequestHead, response: Response) -> Response:
        """Return an answer, which is encoded, with the proof that a node of this fleet gives it to this request."""
        claims = self._claims(head)
        if claims is None:
            return response
        proof = self._keys.prove(claims.once, canonical(response))
        return msgspec.structs.replace(response, headers={**response.headers, PROOF: proof})

    def _claims(self, head: RequestHead) -> Claims | None:
        return self._keys.read(_authorization(head))


def moved(what: str) -> Response:
    """Return the answer to a node that asks for what has just gone from here. It is never passed on: no loop begins."""
    refused = _refused(503, "moved", f"{what} has just moved to another node: ask again")
    return msgspec.structs.replace(refused, headers={**refused.headers, "Retry-After": "1"})


def _refused(status: int, reason: str, text: str) -> Response:
    return msgspec.structs.replace(error(status, text), headers={REFUSAL: reason})


def _authorization(head: RequestHead) -> bytes:
    values = head.headers.get(b"authorization", ())
    return values[0] if len(values) == 1 else b""
