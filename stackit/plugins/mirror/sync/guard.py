"""The guard against mass deletion: an emptied upstream must not take the mirror with it unseen."""

from __future__ import annotations

from collections.abc import Collection

from stackit.plugins.mirror.settings import MirrorSettings


def objection(
    settings: MirrorSettings, have: Collection[str], gone: Collection[str], wanted: Collection[str]
) -> str | None:
    """Why ``gone`` of the refs that the mirror has may not go without a person's word; None where they may.

    ``wanted`` are the refs of the remote. Refs that the configuration no longer asks for are not among these.
    """
    if not gone:
        return None
    many = len(have) >= settings.min_refs and len(gone) > settings.max_deletions * len(have)
    if wanted and not many:
        return None
    what = "all" if len(gone) == len(have) else "so many"
    return (
        f"the remote deleted {len(gone)} of {len(have)} refs: the mirror keeps them, as {what} at once may be "
        "a mistake; if it is none, POST …/sync?accept=deletions (python -m stackit sync --accept-deletions)"
    )
