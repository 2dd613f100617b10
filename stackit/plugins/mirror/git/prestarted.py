"""Gits that are started before there is anything for them to read: their start then costs nobody time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stackit.plugins.mirror.git.runner import Git, Waiting
from stackit.subprocesses.child import Finished

Command = tuple[str, ...]


class PrestartedGit:
    """The gits of one piece of work in the repository at ``directory``; ``dismissed`` has to be its end.

    ``variables`` are added to their environment.
    """

    def __init__(self, git: Git, directory: Path, variables: Mapping[str, str]) -> None:
        self._git = git
        self._directory = directory
        self._variables = variables
        self._waiting: dict[Command, Waiting] = {}

    def start(self, *commands: Command) -> None:
        """Have these wait for what they are to read. Raises OSError and GitError."""
        for command in commands:
            if command not in self._waiting:
                self._waiting[command] = self._git.waiting(self._directory, *command, variables=self._variables)

    async def run(self, command: Command, stdin: bytes) -> Finished:
        """The one that waits, or else a new one. Raises GitError."""
        waiting = self._waiting.pop(command, None)
        if waiting is None:
            return await self._git.local(self._directory, *command, stdin=stdin, variables=self._variables)
        return await waiting.given(stdin)

    async def dismissed(self) -> None:
        """End those that still wait."""
        while self._waiting:
            _, waiting = self._waiting.popitem()
            await waiting.dismissed()
