"""What a node says with a request to another one: who asks, for whom, and a proof that a node of this fleet says it.

Nodes trust each other by the key that is in their database. From it, each purpose has a key of its own, so that a proof
of one kind is none of another.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64

import msgspec

from stackit.api.admin import Role

SCHEME = "stackit-node"
"""The scheme of the header ``Authorization``, in lower case."""
_LONGEST = 4 * 1024
"""Bytes of a header with claims that are looked at."""
_SHORTEST_KEY = 16
"""Bytes of a key that cannot be guessed."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What is claimed of a request. All of it is in the proof.

    ``node`` sends it to the node ``to`` in its ``incarnation``. Of path, query and body it has the digests (SHA-256,
    hex), so that it is short. ``at`` is in seconds since the epoch by the sender's clock, ``once`` a text that is never
    used again. The rest tells the person who asks. Nodes of two versions talk: what is added has a default.
    """

    node: str
    to: str
    incarnation: int
    method: str
    path: str
    query: str
    body: str
    at: float
    once: str
    by: str
    role: Role
    client: str = ""
    session: str = ""
    last_event_id: str = ""


class Keys:
    """The keys of each purpose, made of the one that the fleet has."""

    def __init__(self, node_key: bytes) -> None:
        """Raises ValueError for a key that is too short to be a secret."""
        if len(node_key) < _SHORTEST_KEY:
            raise ValueError("the key of the fleet is too short")
        base = hashlib.sha256(node_key).digest()  # HMAC takes a key with zeros behind it for the same
        self._request, self._answer, self.ticket, self.affinity = (
            hmac.digest(base, purpose, "sha256") for purpose in (b"request", b"answer", b"ticket", b"affinity")
        )

    def __repr__(self) -> str:
        return "Keys()"

    def sign(self, claims: Claims) -> str:
        """Return the value of the header ``Authorization`` for a request."""
        said = urlsafe_b64encode(msgspec.json.encode(claims))
        return f"{SCHEME} {said.decode()}.{hmac.new(self._request, said, 'sha256').hexdigest()}"

    def read(self, header: bytes) -> Claims | None:
        """Return the claims of a header, if a node of this fleet made them: whether they fit is not looked at."""
        scheme, _, proof = header.partition(b" ")
        said, _, mac = proof.partition(b".")
        if scheme.lower() != SCHEME.encode() or len(header) > _LONGEST:
            return None
        if not hmac.compare_digest(hmac.new(self._request, said, "sha256").hexdigest().encode(), mac):
            return None
        try:
            return msgspec.json.decode(urlsafe_b64decode(said), type=Claims)
        except (msgspec.DecodeError, NotBase64, UnicodeDecodeError):
            return None  # of a node of another age

    def prove(self, once: str, answer: bytes) -> str:
        """Return the proof of an answer to the request that was sent with ``once``."""
        return hmac.new(self._answer, once.encode() + b"\n" + answer, "sha256").hexdigest()


def digest_of(data: bytes) -> str:
    """Return the digest of a path, a query or a body."""
    return hashlib.sha256(data).hexdigest()


def is_same(given: str, wanted: str) -> bool:
    """Return whether two proofs are the same, in a time that tells nothing of either."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())
