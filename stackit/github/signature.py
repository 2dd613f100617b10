"""GitHub's signature of a delivery: an HMAC-SHA256 over the body exactly as delivered.

This is its form; ``web.webhook_secrets`` compares it. Source: GitHub's documentation, "Validating webhook deliveries".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from binascii import unhexlify
from collections.abc import Sequence

HEADER = b"x-hub-signature-256"

_SIGNATURE = re.compile(rb"sha256=([0-9a-f]{64})")


def parse(values: Sequence[bytes]) -> bytes | None:
    """Return the digest (32 bytes) in the values of the header; None unless there is exactly one, of the exact form."""
    match = _SIGNATURE.fullmatch(values[0]) if len(values) == 1 else None
    return unhexlify(match[1]) if match else None


def mac(secret: bytes) -> hmac.HMAC:
    """Return the MAC of no bytes under a secret."""
    return hmac.new(secret, digestmod=hashlib.sha256)
