"""Repositories that were found once, and that no table ``[[discover]]`` lists any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stackit.github.discovery.listings import realm
from stackit.github.discovery.rules import Rule
from stackit.registry import Batch, Record

REASON = "no [[discover]] lists it any more"


def orphans(records: Iterable[Record], rules: Sequence[Rule]) -> list[Batch]:
    """Return the removal of repositories whose App or owner is in no table any more, for each realm."""
    removed: dict[str, dict[int, str]] = {}
    for record in records:
        found = record.source == "discover" and record.is_managed
        if found and record.id is not None and not any(_may_list(rule, record) for rule in rules):
            removed.setdefault(record.realm, {})[record.id] = REASON
    return [Batch(realm=each, removed=numbers) for each, numbers in removed.items()]


def _may_list(rule: Rule, record: Record) -> bool:
    table = rule.table
    owner = record.repo.owner.lower()
    if table.app is not None:
        return table.app == record.app and (table.installation or owner).lower() == owner
    return (
        record.app is None
        and (table.organization or table.user or "").lower() == owner
        and realm(table.api_url) == record.realm
    )
