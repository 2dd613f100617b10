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


class _Owner(msgspec.Struct):
    """What names an owner, whatever it is."""

    login: Any = None
    name: Any = None


class _Names(msgspec.Struct):
    """What names a repository, whatever it is; an owner that is no object names nobody."""

    owner: _Owner | list[Any] | str | float | bool | None = None
    name: Any = None
    full_name: Any = None


_OUTLINE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder()
_NAMES = msgspec.json.Decoder(_Names)
_TRUE = msgspec.Raw(b"true")


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

    Only what is asked here is decoded; the rest is checked to be JSON, which takes a quarter of the time.
    """
    try:
        if not body.isascii():
            str(body, "utf-8")  # what is passed over is not checked for it
        payload = _OUTLINE.decode(body)
        action = _decoded(payload.get("action"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = action if isinstance(action, str) else None
    if not _EVENT_NAME.fullmatch(name) or not has_shape(name, payload, text):
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
            action=text if text is not None and _ACTION.fullmatch(text) else None,
            repo=repo,
        )
    if repo is None:
        return None
    ref = _decoded(payload.get("ref"))
    return Push(
        name=name,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        repo=repo,
        ref=ref if isinstance(ref, str) and is_ref(ref) else None,
        before=_object_id(_decoded(payload.get("before"))),
        after=_object_id(_decoded(payload.get("after"))),
        created=payload.get("created") == _TRUE,
        deleted=payload.get("deleted") == _TRUE,
        forced=payload.get("forced") == _TRUE,
    )


def _decoded(found: msgspec.Raw | None) -> Any:
    """The value; None for a number that no float can be, which is nothing that is asked for."""
    try:
        return None if found is None else _ANYTHING.decode(found)
    except msgspec.ValidationError:
        return None


def _repository(found: msgspec.Raw | None) -> Repo | None:
    """The owner is ``owner.login``, else ``owner.name``, else in ``full_name``; the name is ``name``, else in that."""
    try:
        names = _NAMES.decode(found or b"")
        owner = names.owner if isinstance(names.owner, _Owner) else _Owner()
        full_owner, _, short_name = _text(names.full_name).partition("/")
        login = _text(owner.login) or _text(owner.name) or full_owner
        name = _text(names.name) or short_name
        # A slash inside either would make another repository of the two.
        return None if "/" in login else Repo.parse(f"{login}/{name}")
    except (msgspec.DecodeError, ValueError):
        return None


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""


def _object_id(found: Any) -> str | None:
    return found if isinstance(found, str) and _OBJECT_ID.fullmatch(found) else None
