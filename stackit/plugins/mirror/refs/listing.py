"""The refs of a remote, as it lists them."""

from __future__ import annotations

import re

import msgspec

_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Listing(msgspec.Struct, frozen=True):
    """A remote's refs: object id by ref (bytes, as git has them), and the ref that HEAD names.

    ``tip`` is the object id of HEAD, also where HEAD names no ref.
    """

    refs: dict[bytes, str]
    head: bytes | None
    by_v2: bool | None = None
    """True if the list came by protocol v2; None if that is not known."""
    tip: str | None = None


def is_object_id(oid: str) -> bool:
    """Return True for the hexadecimal id of an object, SHA-1 or SHA-256; all zeros are the id of none."""
    return _OBJECT_ID.fullmatch(oid) is not None and bool(oid.strip("0"))
