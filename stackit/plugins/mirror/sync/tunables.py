"""The figures of the mirror that no setting changes."""

from __future__ import annotations

import msgspec


class Tunables(msgspec.Struct, frozen=True):
    """Times in seconds and bounds. They suit every installation; tests make them small."""

    stall: float = 60.0
    """A fetch ends after this time without progress, whatever its timeout."""
    longest: float = 3600.0
    """A first fetch ends after this time. A timeout that grows ends here, too."""
    release_after: float = 5.0
    """A fetch without progress for this time no longer counts against the concurrency."""
    release_quick_after: float = 0.5
    """The same for a fast fetch, which takes milliseconds."""
    release_long_after: float = 60.0
    """A first fetch or a clone frees its slot after this time, whatever its progress."""
    clone_from: int = 100
    """From this many refs on, ``git clone`` is used: a first fetch makes a file for each ref, and is slower."""
    first_pause: float = 5.0
    """The pause after the first failure in a row. It doubles with each further one."""
    ask_again_after: tuple[float, ...] = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
    """Pauses before a remote that does not show a pushed commit is asked again: GitHub answers from replicas."""
    patience: float = 600.0
    """A pushed commit that the remote does not show for this time has been undone without an announcement."""
    recheck_after: float = 5.0
    """A push whose commit was passed over without an announcement is checked again after this time."""
    pushes_remembered: int = 1000
    """Pushes of one repository that are remembered, and commits of a history."""
