"""The webhook secrets that the leader of a fleet has made: every node has them before GitHub signs by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.logger import Logger

from stackit.api.background import Background
from stackit.api.errors import StackitError
from stackit.api.nodes import Nodes
from stackit.api.reactor import Reactor, within
from stackit.github.hooks.secret_files import SecretFiles
from stackit.journal import JournalProtocol
from stackit.journal.errands import Errands
from stackit.journal.followed import FollowedDocuments

_log = Logger(namespace="stackit")

COLLECTION = "webhook-secrets"
"""The documents are the secrets by the names of their files. An empty one is of a file that is gone for good."""
KIND = "secrets"
PATIENCE = 30.0
"""Seconds for the other nodes to take a secret."""
_NOT_TAKEN = (
    "not every node of the fleet has taken the webhook secret (stackit fleet tells which are there): try the same "
    "command again when they are"
)


class SharedSecrets:
    """Has the files of all nodes say the same. Without a fleet it does nothing.

    ``refresh`` has the receiver take the secrets that are in the files now, ``notice`` is told why they cannot be.
    """

    def __init__(
        self,
        files: SecretFiles,
        journal: JournalProtocol,
        nodes: Nodes,
        errands: Errands,
        *,
        reactor: Reactor,
        refresh: Callable[[], None],
        notice: Callable[[str], None],
    ) -> None:
        self._files = files
        self._journal = journal
        self._nodes = nodes
        self._errands = errands
        self._reactor = reactor
        self._refresh = refresh
        self._notice = notice
        self._background = Background()
        self._followed = FollowedDocuments(journal, COLLECTION, self._take, known=tuple, reactor=reactor)
        self._led = False
        errands.on(KIND, self._take_as_told)
        nodes.when_changed(self._leader_changed)

    async def share(self, paths: Sequence[Path]) -> None:
        """Return once all nodes have in these files what is in them here. Raises StackitError."""
        if not self._nodes.here:
            return
        own = self._files.contents()
        await self._journal.put(COLLECTION, {each.name: own.get(each.name, "").encode() for each in paths})
        try:
            taken = await within(self._reactor, PATIENCE, self._errands.ask_all(KIND, ""))
        except TimeoutError:
            taken = False
        if not taken:
            raise StackitError(_NOT_TAKEN)

    async def stop(self) -> None:
        """Follow other nodes no more."""
        await self._followed.stop()
        await self._background.stop()

    def _leader_changed(self) -> None:
        led, self._led = self._led, self._nodes.leads()
        if self._led and not led:
            self._background.run(self._bring_own())

    async def _bring_own(self) -> None:
        """Give the fleet the secrets that were made before there was one."""
        try:
            await self._followed.read()  # those that are gone are not brought back
            there = await self._journal.documents(COLLECTION)
            own = {name: secret.encode() for name, secret in self._files.contents().items() if name not in there}
            if own:
                await self._journal.put(COLLECTION, own)
        except StackitError as problem:
            self._notice(f"the webhook secrets that stackit made are not shared with the other nodes: {problem}")

    async def _take_as_told(self, _: str) -> bool:
        try:
            return self._take(await self._journal.documents(COLLECTION))
        except StackitError:  # the journal tells of it
            return False

    def _take(self, documents: Mapping[str, bytes | None]) -> bool:
        """Have the files say what the journal says, and return whether they do."""
        try:
            if put(self._files, documents):
                self._refresh()
        except StackitError as problem:
            self._notice(f"a webhook secret of the fleet cannot be kept here: {problem}")
            return False
        return True


def put(files: SecretFiles, documents: Mapping[str, bytes | None]) -> bool:
    """Have files say what the journal says; return whether any did not. Raises StackitError."""
    changed = False
    for name, document in documents.items():
        if document is not None:
            try:
                secret = document.decode()
            except UnicodeDecodeError:
                _log.warn("the webhook secret {name} in the journal is no text, and is left out", name=name)
            else:
                changed = files.put(name, secret) or changed
    return changed


def load(files: SecretFiles, journal: JournalProtocol) -> None:
    """Take the secrets of the fleet, before anything is received. Blocks. Raises StackitError."""
    put(files, journal.documents_now(COLLECTION))
