"""From the bytes of a verified delivery to an event, or to nothing where they are none."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

import msgspec

from stackit.api.events import LONGEST_ACTION, Event, Push, Repo
from stackit.github.event_types import PUSH, has_shape, telling_keys
from stackit.github.refnames import is_ref

_EVENT_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
Encoding = Literal["any", "json", "form"]
"""How JSON comes to a webhook: as it is, in a form, or in either."""

_JSON = b"application/json"
_FORM = b"application/x-www-form-urlencoded"
_FIELD = b"payload="
_QUOTED = bytes.maketrans(b"%+", b"= ")
_LONGEST_NAME = 200
"""Characters of an owner and the name of a repository, which ``Repo`` allows 100 each."""


class _Owner(msgspec.Struct):
    """What names an owner, whatever it is."""

    login: Any = None
    name: Any = None


class _Names(msgspec.Struct):
    """What names a repository, whatever it is; an owner that is no object names nobody."""

    owner: _Owner | list[Any] | str | float | bool | None = None
    name: Any = None
    full_name: Any = None


# What tells that a body is not that of a push, though it names a repository.
_TELLING = tuple(sorted(telling_keys(PUSH, {"ref"})))


class _UsualPush(msgspec.Struct):
    """A push, as all but strange ones are: decoded in one pass."""

    repository: _Names
    ref: Any = None
    before: Any = None
    after: Any = None
    created: Any = None
    deleted: Any = None
    forced: Any = None


_USUAL_PUSH: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("_Telling", [(key, msgspec.Raw, msgspec.UNSET) for key in _TELLING], bases=(_UsualPush,))
)
_telling = attrgetter(*_TELLING)
_NOTHING_TELLING = (msgspec.UNSET,) * len(_TELLING)

_OUTLINE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANYTHING = msgspec.json.Decoder()
_NAMES = msgspec.json.Decoder(_Names)
_NOBODY = _Owner()


def json_text(body: bytes, content_type: bytes | None, accepts: Encoding) -> bytes | None:
    """The JSON in a body of this ``Content-Type``; None where the type is not one that GitHub sends, or ``accepts``.

    A type that was not given counts as JSON. A form is ``payload=`` and what follows, and has no other field: the
    type is not signed, and JSON may have anything inside it, but never begins like a form.
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
    """The value of a field of a form, without its escapes; None where one of them is none.

    Quoted-printable text has the same escapes behind another sign, and is read in one pass, by C, for which
    ``urllib`` needs a second and a gigabyte where a large body is full of them.
    """
    if b"\n" in value or b"\r" in value:
        return None  # in quoted-printable text a line may be continued
    found = binascii.a2b_qp(value.replace(b"=", b"%3D").translate(_QUOTED))
    # Each escape is two bytes shorter then, and what looks like one is not.
    return found if len(found) == len(value) - 2 * value.count(b"%") else None


def decode(name: str, body: bytes, *, id: str, delivery: str, hook: str, received_at: float) -> Event | None:  # noqa: A002
    """The event ``name`` with this JSON ``body``; a ``Push`` for a push.

    None where the body is not an object in plain UTF-8 JSON, or does not have the shape of that
    event; a push has to name a repository. Never raises, whatever the bytes are.

    Only what is asked here is decoded; the rest is checked to be JSON, which takes a quarter of the time.
    """
    try:
        if not body.isascii():
            str(body, "utf-8")  # what is passed over is not checked for it
        if name == PUSH and (usual := _usual_push(body)) is not None:
            return _push(usual, id=id, delivery=delivery, hook=hook, received_at=received_at, body=body)
        payload = _OUTLINE.decode(body)
        action = _decoded(payload.get("action"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = action if isinstance(action, str) else None
    if not _EVENT_NAME.fullmatch(name) or not has_shape(name, payload, text):
        return None
    if name == PUSH:
        push = _UsualPush(_names(payload), *[_decoded(payload.get(key)) for key in _UsualPush.__struct_fields__[1:]])
        return _push(push, id=id, delivery=delivery, hook=hook, received_at=received_at, body=body)
    return Event(
        name=name,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        action=text if text and len(text) <= LONGEST_ACTION else None,
        repo=_repository(_names(payload)),
    )


def _usual_push(body: bytes) -> _UsualPush | None:
    """What a push says; None where it takes a closer look to tell. Raises RecursionError."""
    try:
        found: _UsualPush = _USUAL_PUSH.decode(body)
    except msgspec.DecodeError:
        return None
    return found if _telling(found) == _NOTHING_TELLING else None


def _push(said: _UsualPush, *, id: str, delivery: str, hook: str, received_at: float, body: bytes) -> Push | None:  # noqa: A002
    repo = _repository(said.repository)
    if repo is None:
        return None
    ref = said.ref
    return Push(
        name=PUSH,
        id=id,
        delivery=delivery,
        hook=hook,
        received_at=received_at,
        body=body,
        repo=repo,
        ref=ref if isinstance(ref, str) and is_ref(ref) else None,
        before=_object_id(said.before),
        after=_object_id(said.after),
        created=said.created is True,
        deleted=said.deleted is True,
        forced=said.forced is True,
    )


def _decoded(found: msgspec.Raw | None) -> Any:
    """The value; None for a number that no float can be, which is nothing that is asked for."""
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
    """The owner is ``owner.login``, else ``owner.name``, else in ``full_name``; the name is ``name``, else in that."""
    owner = names.owner if isinstance(names.owner, _Owner) else _NOBODY
    full_owner, _, short_name = _text(names.full_name).partition("/")
    login = _text(owner.login) or _text(owner.name) or full_owner
    name = _text(names.name) or short_name
    # A slash inside either would make another repository of the two; a long one is none, and not worth remembering.
    return None if "/" in login or len(login) + len(name) > _LONGEST_NAME else _parsed(f"{login}/{name}")


@lru_cache(maxsize=4096)
def _parsed(full_name: str) -> Repo | None:
    """What one sender sends names a few repositories."""
    try:
        return Repo.parse(full_name)
    except ValueError:
        return None


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""


def _object_id(found: Any) -> str | None:
    return found if isinstance(found, str) and _OBJECT_ID.fullmatch(found) else None
