"""A payload for every event that GitHub documents."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from stackit.api.events import Repo
from stackit.github.actions import doubt
from stackit.testing.actions import ACTIONS, ONLY_WITH
from stackit.testing.objects import Json, organization, push_payload, repository, user
from stackit.testing.shapes import SHAPES

EVENTS = tuple(SHAPES)
"""The name of every event that GitHub documents."""

_COMMON: Mapping[str, Callable[[Repo], Json]] = {
    "repository": repository,
    "organization": lambda repo: organization(repo.owner),
    "sender": lambda _: user(),
    "installation": lambda _: {"id": 7, "node_id": "I_7"},
}


def payload_for(event: str, action: str | None = None, repo: Repo | str = "octo/widget") -> Json:
    """Return a new, small payload of ``event`` with the keys that the event always has. The caller may change it.

    ``action`` is by default the usual one; it may be any word, as GitHub adds new ones. Raises ValueError for an
    event that GitHub does not document.
    """
    shape = SHAPES.get(event)
    if shape is None:
        reason = doubt(event) or "it has many shapes"
        raise ValueError(f"GitHub documents no event {event!r}: give a payload of your own for it ({reason})")
    if event == "push":
        return push_payload(repo)
    found = repo if isinstance(repo, Repo) else Repo.parse(repo)
    chosen = action or next(iter(ACTIONS.get(event, ())), None)
    payload: Json = {"action": chosen} if chosen else {}
    payload |= copy.deepcopy({**shape.own, **ONLY_WITH.get(f"{event}.{chosen}", {})})
    if chosen in ("edited", "renamed", "transferred"):
        payload.setdefault("changes", {})
    for key in shape.common:
        payload[key] = _COMMON[key](found)
    return payload
