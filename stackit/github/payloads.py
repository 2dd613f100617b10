"""From the bytes of a verified delivery to an event, or to nothing where they are none."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from stackit.events import Event, Push, Repo
from stackit.github.event_types import PUSH, has_shape
from stackit.github.refnames import is_ref

_EVENT_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
# Whoever dispatches a repository_dispatch chooses its action, up to 100 characters.
_ACTION = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_MOST_FORM_FIELDS = 16


def json_text(body: bytes, content_type: bytes | None) -> bytes | None:
    """The JSON in a body of this ``Content-Type``; None where the type is not one that GitHub sends.

    A form has it in its one field ``payload``. A type that was not given counts as JSON.
    """
    media_type = b"application/json" if content_type is None else content_type.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return body
    if media_type != b"application/x-www-form-urlencoded":
        return None
    fields = body.split(b"&", _MOST_FORM_FIELDS)
    found = [value for name, _, value in (field.partition(b"=") for field in fields) if name == b"payload"]
    return unquote_to_bytes(found[0].replace(b"+", b" ")) if len(found) == 1 else None


def decode(name: str, body: bytes, *, id: str, delivery: str, hook: str, received_at: float) -> Event | None:  # noqa: A002
    """The event ``name`` with this JSON ``body``; a ``Push`` for a push.

    None where the body is not an object in plain UTF-8 JSON, or does not have the shape of that
    event; a push has to name a repository. Never raises, whatever the bytes are.

    The whole body is decoded, and dropped again: that a handler can decode it later is part of
    being recognisable, and a partial decode passes over invalid UTF-8 and numbers out of range.
    """
    try:
        payload = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    action = payload.get("action")
    known_action = action if isinstance(action, str) and _ACTION.fullmatch(action) else None
    if not _EVENT_NAME.fullmatch(name) or not has_shape(name, payload):
        return None
    repo = _repository(payload.get("repository"))
    if name != PUSH:
        return Event(
            name=name,
            id=id,
            delivery=delivery,
            hook=hook,
            received_at=received_at,
            body=body,
            action=known_action,
            repo=repo,
        )
    if repo is None:
        return None
    ref = payload.get("ref")
    return Push(
        name=name,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        repo=repo,
        ref=ref if isinstance(ref, str) and is_ref(ref) else None,
        before=_object_id(payload.get("before")),
        after=_object_id(payload.get("after")),
        created=payload.get("created") is True,
        deleted=payload.get("deleted") is True,
        forced=payload.get("forced") is True,
    )


def _repository(found: Any) -> Repo | None:
    """The owner is ``owner.login``, else ``owner.name``, else in ``full_name``; the name is ``name``, else in that."""
    if not isinstance(found, dict):
        return None
    owner = found["owner"] if isinstance(found.get("owner"), dict) else {}
    full_name = found["full_name"] if isinstance(found.get("full_name"), str) else ""
    full_owner, _, short_name = full_name.partition("/")
    login = _first_text(owner.get("login"), owner.get("name"), full_owner)
    name = _first_text(found.get("name"), short_name)
    try:
        # A slash inside either would make another repository of the two.
        return None if "/" in login else Repo.parse(f"{login}/{name}")
    except ValueError:
        return None


def _first_text(*candidates: Any) -> str:
    return next((each for each in candidates if isinstance(each, str) and each), "")


def _object_id(found: Any) -> str | None:
    return found if isinstance(found, str) and _OBJECT_ID.fullmatch(found) else None
