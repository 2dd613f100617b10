"""The question to a remote whether its mirror is equal to it already: one request, and no git."""

from __future__ import annotations

from stackit import App, ManagedRepo, StackitError
from stackit.http.client import RemoteError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import TOO_MANY_REFS
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.quick_check import QuickCheck
from stackit.plugins.mirror.sync.stagger import phase
from stackit.plugins.mirror.sync.tamper_watch import TamperWatch

THOROUGH_EVERY = 86400.0
"""Seconds between two comparisons by git, though quick checks find nothing new."""


class Equality:
    """The equality of one mirror and its remote, as ``quick_check`` tells it; None where only git can tell.

    It is not known where the mirror was tampered with, and once a day, so that git compares all refs.
    """

    def __init__(self, app: App, managed: ManagedRepo, repository: Repository, tampering: TamperWatch) -> None:
        self.quick_check: QuickCheck | None = None
        self._app = app
        self._repository = repository
        self._directory = repository.directory
        self._tampering = tampering
        # Not at the start, when all mirrors are compared at once.
        self._thorough_at = app.reactor.seconds() + THOROUGH_EVERY * phase(managed.repo.key)

    async def is_unchanged(self) -> bool:
        """Return True if mirror and remote are unchanged since they were equal; False where that is not known."""
        if self.quick_check is None or self._tampering.touched or self._app.reactor.seconds() >= self._thorough_at:
            return False
        try:
            return await self.quick_check.is_unchanged(self._directory)
        except (RemoteError, StackitError, OSError):
            return False  # a round asks again, and reports the reason

    async def holds(self) -> bool:
        """Return True if the mirror is equal to its remote; False also if a thorough comparison is due.

        Raises GitError for a remote that git must not ask, either.
        """
        if self.quick_check is None or not self._directory.exists() or self._tampering.check_once():
            return False
        now = self._app.reactor.seconds()
        if now >= self._thorough_at:
            self._thorough_at = now + THOROUGH_EVERY
            return False
        try:
            answer = await self.quick_check.ask(self._directory, self._repository.object_format)
            if self.quick_check.is_as_before(answer):
                return True
            refs = await self._repository.refs()
            return self.quick_check.is_equal(answer, refs, self._repository.head, self._app.now())
        except RemoteError as problem:
            if problem.retry_after is not None:
                raise GitError(str(problem), kind="throttled", retry_after=problem.retry_after) from None
            if problem.reason == "too_large":  # git has no limit, and must not try
                raise GitError(TOO_MANY_REFS, kind="remote") from None
            return False  # git asks again, and reports the reason
        except (GitError, OSError):
            return False  # as above
