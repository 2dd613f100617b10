"""Start gits before their input is there, so that their start costs a push no time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from stackit.plugins.mirror.git.runner import Git, PrestartedProcess
from stackit.subprocesses import Finished

Command = tuple[str, ...]


class PrestartedGit:
    """Prestarted gits in the repository at ``directory``, by command. ``close`` must be called at the end.

    ``variables`` are added to their environment.
    """

    def __init__(self, git: Git, directory: Path, variables: Mapping[str, str]) -> None:
        self._git = git
        self._directory = directory
        self._variables = variables
        self._waiting: dict[Command, PrestartedProcess] = {}
        self._ending: list[Deferred[None]] = []

    def start(self, *commands: Command) -> None:
        """Start a git for each command that has none yet. Raises OSError and GitError."""
        for command in commands:
            if command not in self._waiting:
                self._waiting[command] = self._git.prestart(self._directory, *command, variables=self._variables)

    async def run(self, command: Command, stdin: bytes) -> Finished:
        """Run the command with ``stdin``, in the git that waits for it or in a new one. Raises GitError."""
        waiting = self._waiting.pop(command, None)
        if waiting is None:
            return await self._git.local(self._directory, *command, stdin=stdin, variables=self._variables)
        return await waiting.finish(stdin)

    def release(self) -> None:
        """End all gits that still wait for their input."""
        self._ending += [Deferred.fromCoroutine(each.kill()) for each in self._waiting.values()]
        self._waiting.clear()

    async def close(self) -> None:
        """Release all gits, and wait until they are gone; so it does if it is cancelled."""
        self.release()
        ending, self._ending = self._ending, []
        for _, result in await DeferredList(ending, consumeErrors=True):
            if isinstance(result, Failure):
                result.raiseException()
