"""Refs as text and as bytes: git keeps bytes, plugins see ``str``."""

from __future__ import annotations


def ref_text(ref: bytes) -> str:
    """Return a ref's name as plugins see it: decoded from UTF-8, other bytes by ``surrogateescape``."""
    return ref.decode("utf-8", "surrogateescape")


def ref_bytes(ref: str) -> bytes:
    """Return a ref's name as git has it, the inverse of ``ref_text``."""
    return ref.encode("utf-8", "surrogateescape")
