"""The changes between two states of a mirror's refs, in the order in which they can be applied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stackit import RefChange
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.repository.ancestry import fast_forwards

_ZERO = "0" * 40


async def changes_between(
    git: Git, directory: Path, old: Mapping[str, str], new: Mapping[str, str]
) -> tuple[RefChange, ...]:
    """Return the changes from ``old`` to ``new`` (object id by ref) of the repository at ``directory``.

    Deletions come first, so that applied in order no two refs conflict. Raises GitError.
    """
    zero = "0" * len(next(iter((*new.values(), *old.values())), _ZERO))
    deleted = [RefChange(ref, old[ref], "0" * len(old[ref]), "deleted") for ref in sorted(old.keys() - new.keys())]
    created = [RefChange(ref, zero, new[ref], "created") for ref in sorted(new.keys() - old.keys())]
    moved = sorted(ref for ref in old.keys() & new.keys() if old[ref] != new[ref])
    forward = await fast_forwards(git, directory, ((old[ref], new[ref]) for ref in moved))
    updated = [
        RefChange(ref, old[ref], new[ref], "updated", forced=(old[ref], new[ref]) not in forward) for ref in moved
    ]
    return (*deleted, *updated, *created)
