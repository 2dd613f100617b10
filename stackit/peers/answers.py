"""Answers between nodes: which headers go along, and what of an answer is in its proof."""

from __future__ import annotations

from collections.abc import Mapping

from stackit.api.admin import Response
from stackit.peers.claims import digest_of

PROOF = "X-Stackit-Node-Proof"
INCARNATION = "X-Stackit-Node-Incarnation"
"""Tells the one who sent a request to an earlier incarnation which one there is now."""

REFUSAL = "X-Stackit-Node-Refusal"
"""Tells why a node refuses: ``name``, ``outside``, ``clock``, ``incarnation``, ``used``, ``moved``."""

_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "content-type", "date", "keep-alive", "server", "set-cookie", "te", "trailer"}
    | {"transfer-encoding", "upgrade", PROOF.lower()}
)
_BODILESS = (204, 304)
"""Statuses of answers that have neither a body nor its type, whatever the response says."""


def canonical(response: Response) -> bytes:
    """Return what is proven of an answer: status, type, headers, and the body, if that does not come bit by bit."""
    headers = sorted((name.lower(), value) for name, value in response.headers.items())
    body = response.body if isinstance(response.body, bytes) else b""
    told = [
        str(response.status),
        "" if response.status in _BODILESS else response.content_type,
        *(f"{name}: {value}" for name, value in headers if name not in _OF_THE_CONNECTION),
        "stream" if response.stream is not None else digest_of(b"" if response.status in _BODILESS else body),
    ]
    return "\n".join(told).encode("latin-1")


def passed_on(headers: Mapping[bytes, tuple[bytes, ...]]) -> dict[str, str]:
    """Return the headers of a node's answer that are those of the answer itself."""
    named = {name.decode("latin-1"): value[-1].decode("latin-1") for name, value in headers.items()}
    return {name.title(): value for name, value in named.items() if name not in _OF_THE_CONNECTION}
