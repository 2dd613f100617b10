"""A mirror, as a plugin that reads it sees it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stackit.api.events import Repo


class MirrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The mirror of a repository, at the moment of the question.

    ``path`` is a bare git repository: anybody may read it, and only the plugin that keeps it may write to it. It is
    there if ``exists``, which it is after the first clone. ``state`` is ``in_step``, ``behind``, ``cloning``,
    ``failing``, ``quarantined``, ``suspended`` or ``no_access``. ``verified_at`` is when the mirror was last equal to
    its remote, in seconds since the epoch; None before that. ``arriving``: its home in a fleet is this node since a
    moment ago, and it may lack what was announced before.
    """

    repo: Repo
    path: Path
    exists: bool
    state: str
    verified_at: float | None = None
    arriving: bool = False
