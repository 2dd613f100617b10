"""What a node of a fleet hears of webhooks, and tells the leader, which looks at them: any node may receive theirs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stackit.api.events import Repo
from stackit.api.occurrences import Occurrence

_NEXT = "+next"


class Heard(msgspec.Struct, frozen=True, omit_defaults=True):
    """An occurrence, as far as it tells of webhooks. ``verified_by`` is the name of the secret's file if that is here.

    ``is_found``: the backstop found a push in ``repo``.
    """

    name: str = ""
    outcome: str | None = None
    verified_by: str | None = None
    repo: str | None = None
    is_found: bool = False

    def occurrence(self, secrets: Path) -> Occurrence:
        """Return it as if it had happened here; ``secrets`` is the directory of the secrets that stackit made."""
        verified_by = self.verified_by
        if verified_by is not None and "/" not in verified_by:
            verified_by = str(secrets / verified_by)
        repo = None if self.repo is None else Repo.parse(self.repo)
        return Occurrence(name=self.name, outcome=self.outcome, verified_by=verified_by, repo=repo)


def heard(occurrence: Occurrence, secrets: Path) -> Heard | None:
    """Return what the leader has to know of an occurrence: of pings and of new secrets; None for any other."""
    label = occurrence.verified_by
    if occurrence.name not in ("accepted", "duplicate") or label is None:
        return None
    # An App has no ping: GitHub sends a delivery again, which is a duplicate.
    if occurrence.outcome != "ping" and occurrence.name != "duplicate" and not label.endswith(_NEXT):
        return None
    path = Path(label)
    return Heard(
        occurrence.name,
        occurrence.outcome,
        path.name if path.parent == secrets else label,
        None if occurrence.repo is None else str(occurrence.repo),
    )
