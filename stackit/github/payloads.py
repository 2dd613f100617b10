"""Decode the body of a verified delivery into an event."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec

from stackit.api.events import LONGEST_ACTION, Event, Push, Repo
from stackit.api.refs import is_ref
from stackit.github.event_types import PUSH, excluding_keys, has_shape

_EVENT_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
Encoding = Literal["any", "json", "form"]
"""The content types that the webhook accepts: JSON, a form with JSON in the field ``payload``, or both."""

_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"
_FIELD = b"payload="
_QUOTED = bytes.maketrans(b"%+", b"= ")
_LONGEST_NAME = 200
"""Characters of an owner and a repository's name together; each may have 100."""


class _Owner(msgspec.Struct):
    """The keys of an owner that may name it. Any type is accepted, since no payload may fail to decode."""

    login: Any = None
    name: Any = None


class _Names(msgspec.Struct):
    """The name and the id of a repository. Any type is accepted, since no payload may fail to decode."""

    owner: _Owner | list[Any] | str | float | bool | None = None
    name: Any = None
    full_name: Any = None
    id: Any = None


# A body with a repository is that of a push if it has none of these keys.
_NOT_IN_PUSH = tuple(sorted(excluding_keys(PUSH, allowed={"ref"})))


class _PushFields(msgspec.Struct):
    """The keys of a push, decoded in one pass."""

    repository: _Names
    ref: Any = None
    before: Any = None
    after: Any = None
    created: Any = None
    deleted: Any = None
    forced: Any = None


_PUSH: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_CheckedPush", [(key, msgspec.Raw, msgspec.UNSET) for key in _NOT_IN_PUSH], bases=(_PushFields,))
)
_not_in_push = attrgetter(*_NOT_IN_PUSH)
_ALL_UNSET = (msgspec.UNSET,) * len(_NOT_IN_PUSH)

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder()
_NAMES = msgspec.json.Decoder(_Names)
_NO_OWNER = _Owner()


def json_text(body: bytes, content_type: bytes | None, accepts: Encoding) -> bytes | None:
    """Return the JSON text in a body of this ``Content-Type``.

    A missing type counts as JSON. None where the type is not one that GitHub sends and ``accepts`` allows, or the form
    is malformed. A form begins with ``payload=`` and has no other field. This is checked because the type is not
    signed, and no JSON text begins like that: a body can be read in one way only.
    """
    media_type = _JSON if content_type is None else content_type
    if media_type != _JSON:
        media_type = media_type.partition(b";")[0].strip().lower()
    if media_type == _JSON:
        return None if accepts == "form" else body
    if media_type != _FORM or accepts == "json" or not body.startswith(_FIELD) or b"&" in body:
        return None
    return _unquoted(body[len(_FIELD) :])


def _unquoted(value: bytes) -> bytes | None:
    """Return the value of a form field, percent-decoded; None where an escape is malformed.

    The value is rewritten as quoted-printable text, which has the same escapes behind ``=``, and decoded by the
    standard library's C code in one pass. ``urllib`` takes a second and a gigabyte for 25 MiB of escapes.
    """
    if b"\n" in value or b"\r" in value:
        return None  # a line end has a meaning of its own in quoted-printable text
    decoded = binascii.a2b_qp(value.replace(b"=", b"%3D").translate(_QUOTED))
    # A well-formed escape became two bytes shorter. A malformed one did not.
    return decoded if len(decoded) == len(value) - 2 * value.count(b"%") else None


def decode(name: str, body: bytes, *, id: str, delivery: str, hook: str, received_at: float) -> Event | None:  # noqa: A002 - the names of Event
    """Return the event ``name`` with this JSON ``body``; a ``Push`` for a push.

    None where the body is not a JSON object in UTF-8, or does not have the keys of that event. A push has to name a
    repository. Never raises, whatever the bytes are.

    Only the keys used here are decoded. The rest is validated as JSON, which takes a quarter of the time.
    """
    try:
        if not body.isascii():
            str(body, "utf-8")  # msgspec does not check text that it skips
        if name == PUSH and (fields := _push_fields(body)) is not None:
            return _push(fields, id=id, delivery=delivery, hook=hook, received_at=received_at, body=body)
        payload = _OBJECT.decode(body)
        action = _decoded(payload.get("action"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = action if isinstance(action, str) else None
    if not _EVENT_NAME.fullmatch(name) or not has_shape(name, payload, text):
        return None
    if name == PUSH:
        values = [_decoded(payload.get(key)) for key in _PushFields.__struct_fields__[1:]]
        return _push(
            _PushFields(_names(payload), *values),
            id=id,
            delivery=delivery,
            hook=hook,
            received_at=received_at,
            body=body,
        )
    names = _names(payload)
    return Event(
        name=name,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        action=text if text and len(text) <= LONGEST_ACTION else None,
        repo=_repository(names),
        repo_id=_id(names),
    )


def _push_fields(body: bytes) -> _PushFields | None:
    """Return the keys of a push; None where the body has to be checked key by key. Raises RecursionError."""
    try:
        fields: _PushFields = _PUSH.decode(body)
    except msgspec.DecodeError:
        return None
    return fields if _not_in_push(fields) == _ALL_UNSET else None


def _push(fields: _PushFields, *, id: str, delivery: str, hook: str, received_at: float, body: bytes) -> Push | None:  # noqa: A002 - the names of Event
    repo = _repository(fields.repository)
    if repo is None:
        return None
    ref = fields.ref
    return Push(
        name=PUSH,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        repo=repo,
        repo_id=_id(fields.repository),
        ref=ref if isinstance(ref, str) and is_ref(ref) else None,
        before=_object_id(fields.before),
        after=_object_id(fields.after),
        created=fields.created is True,
        deleted=fields.deleted is True,
        forced=fields.forced is True,
    )


def _decoded(found: msgspec.Raw | None) -> Any:
    """Return the decoded value; None for a missing one, and for a number too large for a float."""
    try:
        return None if found is None else _ANYTHING.decode(found)
    except msgspec.ValidationError:
        return None


def _names(payload: Mapping[str, msgspec.Raw]) -> _Names:
    try:
        return _NAMES.decode(payload.get("repository", b""))
    except msgspec.DecodeError:
        return _Names()


def _repository(names: _Names) -> Repo | None:
    """Return the repository; None where it has no valid name.

    The owner is ``owner.login``, else ``owner.name``, else from ``full_name``. The name is ``name``, else from
    ``full_name``.
    """
    owner = names.owner if isinstance(names.owner, _Owner) else _NO_OWNER
    full_owner, _, short_name = _text(names.full_name).partition("/")
    login = _text(owner.login) or _text(owner.name) or full_owner
    name = _text(names.name) or short_name
    # A slash inside the owner would shift the border between both. Overlong names would fill the cache.
    return None if "/" in login or len(login) + len(name) > _LONGEST_NAME else _parsed(f"{login}/{name}")


def _id(names: _Names) -> int | None:
    return names.id if type(names.id) is int and names.id > 0 else None


@lru_cache(maxsize=4096)
def _parsed(full_name: str) -> Repo | None:
    """Parse a name, or return None. Cached, because deliveries name the same few repositories again and again."""
    try:
        repo = Repo.parse(full_name)
    except ValueError:
        return None
    return None if repo.host else repo


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _OBJECT_ID.fullmatch(value) else None
