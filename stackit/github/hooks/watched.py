"""The webhooks that are watched, with their ids at GitHub, which the journal keeps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec
from twisted.logger import Logger

from stackit.api.errors import JournalError
from stackit.api.forge import GITHUB
from stackit.config.model import Config
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget

_log = Logger(namespace="stackit")

COLLECTION = "hooks"


class Documents(Protocol):
    """The part of the journal that keeps the ids."""

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        """Return the documents of a collection, or those with these keys."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        """Return the same, but block."""

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        """Write documents; None removes one."""


class SeenHook(msgspec.Struct, frozen=True):
    """A webhook that was seen: its scope and its id. Without an id only deliveries by its secret were."""

    scope: str
    id: int | None = None


class WatchedHooks:
    """Every webhook that stackit should hear from: those of Apps, those with a secret of their own, those it knows."""

    def __init__(self, journal: Documents, files: SecretFiles, config: Callable[[], Config]) -> None:
        """Reads the journal, and blocks; where it cannot be read yet, ``load`` does so later."""
        self._journal = journal
        self._files = files
        self._config = config
        self._known: dict[str, SeenHook] = {}
        self._is_loaded = False
        self._left_out: set[str] = set()
        with suppress(JournalError):
            self._take(journal.documents_now(COLLECTION))

    async def load(self) -> None:
        """Read what the journal has, unless that was read before. Raises JournalError."""
        if not self._is_loaded:
            self._take(await self._journal.documents(COLLECTION))

    def begin_anew(self) -> None:
        """Read the journal again before the next look: another node of the fleet may have changed it."""
        self._known.clear()
        self._is_loaded = False

    def _take(self, documents: Mapping[str, bytes]) -> None:
        kept = {key: each for key, document in documents.items() if (each := _decoded(document)) is not None}
        if left_out := sorted(documents.keys() - kept.keys() - self._left_out):
            self._left_out.update(left_out)
            _log.warn(
                "what the journal has of the webhooks {left_out} cannot be read, and is left out", left_out=left_out
            )
        self._known = {**kept, **self._known}
        self._is_loaded = True

    def targets(self) -> dict[str, HookTarget]:
        """Return the targets by their keys. Raises StackitError for a disk that cannot be read."""
        config = self._config()
        apps = {each.name.lower(): HookTarget("app", each.name) for each in config.apps}
        scopes = [each.scope for each in (*config.scoped_secrets, *self._files.scoped()) if each.forge == GITHUB]
        scopes += [each.scope for each in self._known.values()]
        found = {each.key: each for each in apps.values()}
        for each in map(HookTarget.parse, scopes):
            if each.kind != "app":
                found.setdefault(each.key, each)
        return found

    def id_of(self, target: HookTarget) -> int | None:
        """Return the id of a webhook as it was seen last."""
        known = self._known.get(target.key)
        return None if known is None else known.id

    def labels(self, target: HookTarget) -> frozenset[str]:
        """Return the files of the webhook secrets that speak for a target. Raises StackitError as ``targets`` does."""
        scoped = (*self._config().scoped_secrets, *self._files.scoped())
        return frozenset(str(each.file) for each in scoped if each.scope.lower() == target.key)

    def is_known(self, target: HookTarget) -> bool:
        """Return whether a webhook, or a delivery by its secret, was ever seen."""
        return target.key in self._known

    async def learn(self, target: HookTarget, hook: int | None) -> None:
        """Keep the id of a webhook, or that a delivery by its secret came. Raises JournalError."""
        known = SeenHook(target.scope, hook)
        if self._known.get(target.key) != known:
            await self._journal.put(COLLECTION, {target.key: msgspec.json.encode(known)})
            self._known[target.key] = known

    async def forget(self, target: HookTarget) -> bool:
        """Know nothing of a webhook any more; return whether something was known. Raises JournalError."""
        if target.key not in self._known:
            return False
        await self._journal.put(COLLECTION, {target.key: None})
        del self._known[target.key]
        return True


def _decoded(document: bytes) -> SeenHook | None:
    """Return what a document says of a webhook; None for one that is none, or that a newer stackit wrote."""
    try:
        seen = msgspec.json.decode(document, type=SeenHook)
        HookTarget.parse(seen.scope)
    except (msgspec.DecodeError, ValueError):
        return None
    return seen
