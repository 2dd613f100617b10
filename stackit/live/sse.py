"""Server-sent events as bytes, as the HTML standard describes them."""

from __future__ import annotations

import re

HEARTBEAT = b":\n\n"
"""A comment, which clients ignore."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)
_RETRY = 2000
"""Milliseconds after which a browser connects again."""


def event(name: str, event_id: str, data: str) -> bytes:
    """Return an event. ``data`` is one line of ASCII; a name that is no plain word becomes ``other``."""
    plain = name if _NAME.fullmatch(name) else "other"
    return f"event: {plain}\nid: {event_id}\ndata: {data}\n\n".encode("ascii")


def beginning(event_id: str | None) -> bytes:
    """Return the first bytes of a stream: when to come again and, where it begins with now, the id of now.

    An id without data is no event, but a client that is cut before the first one comes back with it.
    """
    now = "" if event_id is None else f"id: {event_id}\n"
    return f"retry: {_RETRY}\n{now}\n".encode("ascii")
