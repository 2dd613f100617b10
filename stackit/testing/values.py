"""Events without a delivery, for tests that call a handler directly."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.events import Event, Push, RefChange, RefsChanged, Repo
from stackit.github.actions import doubt
from stackit.testing.catalogue import payload_for
from stackit.testing.objects import EPOCH, push_payload

_GUID = "00000000-0000-4000-8000-000000000000"


def event(
    name: str,
    payload: Mapping[str, Any] | None = None,
    *,
    action: str | None = None,
    repo: Repo | str = "octo/widget",
    guid: str = _GUID,
) -> Event:
    """Return an event as handlers see it: a Push for ``push``, an Event for any other name.

    Without ``payload``, one is made up, about ``repo``; with one, the repository it names is the event's.
    Warns of an event that no handler gets, or that GitHub does not document.
    """
    chosen = dict(payload_for(name, action, repo) if payload is None else payload)
    if action is not None:
        chosen["action"] = action
    found = chosen.get("action")
    reason = doubt(name, found if isinstance(found, str) else None)
    if reason:
        warnings.warn(f"event {name!r} with action {found!r}: {reason}", stacklevel=2)
    named = chosen.get("repository")
    common: dict[str, Any] = {
        "name": name,
        "id": guid,
        "delivery": guid,
        "received_at": float(EPOCH),
        "body": msgspec.json.encode(chosen),
        "action": chosen.get("action"),
        "repo": Repo.parse(named["full_name"]) if named else None,
    }
    if name != "push":
        return Event(**common)
    common |= {key: chosen.get(key) for key in ("ref", "before", "after")}
    common |= {key: bool(chosen.get(key)) for key in ("created", "deleted", "forced")}
    return Push(**common)


def push_event(
    repo: Repo | str = "octo/widget",
    ref: str = "refs/heads/main",
    before: str = "1" * 40,
    after: str = "2" * 40,
    *,
    forced: bool = False,
    guid: str = _GUID,
) -> Push:
    """Return a push of ``ref`` from ``before`` to ``after`` (full hex object ids, zeros for none)."""
    made = event("push", push_payload(repo, ref, before, after, forced=forced), guid=guid)
    assert isinstance(made, Push)  # noqa: S101 - for the type checker
    return made


def refs_changed(
    repo: Repo | str = "octo/widget",
    changes: Iterable[RefChange | tuple[str, str, str]] = (("refs/heads/main", "1" * 40, "2" * 40),),
    *,
    cause: str = "push",
    guid: str | None = _GUID,
    mirror: Path | None = None,
) -> RefsChanged:
    """Return a RefsChanged. A change may be given as (ref, old, new), with zeros for none.

    ``mirror`` is the path of a bare repository, for a handler that reads it.
    """
    return RefsChanged(
        repo=repo if isinstance(repo, Repo) else Repo.parse(repo),
        changes=tuple(each if isinstance(each, RefChange) else _change(*each) for each in changes),
        cause=cause,
        delivery=guid,
        id=guid or _GUID,
        received_at=float(EPOCH),
        mirror=mirror,
    )


def _change(ref: str, old: str, new: str) -> RefChange:
    if not old.strip("0"):
        return RefChange(ref, old, new, "created")
    return RefChange(ref, old, new, "updated" if new.strip("0") else "deleted")
