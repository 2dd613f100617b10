"""The guard against mass deletion: an upstream that was emptied by mistake does not empty its mirror."""

from __future__ import annotations

from collections.abc import Collection

from stackit.plugins.mirror.sync.settings import SyncSettings


def objection(
    settings: SyncSettings, have: Collection[str], gone: Collection[str], wanted: Collection[str]
) -> str | None:
    """Return why ``gone`` may not be deleted without a person's word, None if they may.

    ``have`` are all refs of the mirror that the configuration asks for, ``wanted`` those of the remote.
    """
    if not gone:
        return None
    many = len(have) >= settings.min_refs and len(gone) > settings.max_deletions * len(have)
    if wanted and not many:
        return None
    what = "all" if len(gone) == len(have) else "so many"
    return (
        f"the remote deleted {len(gone)} of {len(have)} refs: the mirror keeps them, as {what} at once may be "
        "a mistake; if it is none, POST …/sync?accept=deletions (stackit sync --accept-deletions)"
    )
