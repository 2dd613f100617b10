"""The audit: who changed what, from where, and what came of it; in the log, and bounded in the journal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

import msgspec

from stackit.api.admin import AdminRequest, Role
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers
from stackit.journal import JournalProtocol
from stackit.journal.followed import FollowedDocuments
from stackit.journal.write_behind import WriteBehind
from stackit.secrets.redactor import Redact

COLLECTION = "audit"
MOST = 1000
"""Entries that are kept."""
MOST_OF_OTHERS = 250
"""Entries that are kept of what was refused or failed, and of viewers, where there are more than ``MOST``.

Strangers who send wrong tokens must not push out what operators did.
"""
_LONGEST = 500
_ID = re.compile(r"[0-9]{12}(?:\.[A-Za-z0-9._-]{1,63})?", re.ASCII)


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one person changed, or tried to. ``id`` grows with time. ``at`` is in seconds since the epoch.

    ``node`` is that of a fleet which they asked, "" without one. ``action`` is the method, or ``login``, ``logout`` and
    the like. ``target`` is the path with its query.
    """

    id: str
    at: float
    by: str
    role: str
    action: str
    target: str
    client: str
    status: int
    reason: str | None = None
    node: str = ""


class Audit:
    """The audit, which all nodes of a fleet have in common.

    ``now`` is the wall clock, ``observe`` tells the log. ``node`` is the name of this one, "" without a fleet.
    """

    def __init__(
        self,
        journal: JournalProtocol,
        *,
        now: Callable[[], float],
        observe: Callable[[Occurrence], None],
        redact: Redact,
        reactor: Timers,
        node: str = "",
    ) -> None:
        self._node = node
        self._followed = FollowedDocuments(
            journal,
            COLLECTION,
            self._follow,
            known=lambda: [key for key in self._entries if not self._kept.is_pending(key)],
            reactor=reactor,
        )
        self._journal = journal
        self._kept = WriteBehind(journal, COLLECTION)
        self._now = now
        self._observe = observe
        self._redact = redact
        self._entries: dict[str, AuditEntry] = {}
        self._of_others: dict[str, None] = {}
        self._unread: set[str] = set()
        self._last = 0

    def load(self) -> None:
        """Read the entries of the last process, which come before those of this one. It blocks. Raises JournalError."""
        documents = self._journal.documents_now(COLLECTION)
        since, self._entries, self._of_others = self._entries, {}, {}
        unread = [key for key, document in documents.items() if not self._take(key, document)]
        for entry in since.values():
            self._add(entry)
        if unread and self._node:
            self._tell_of(unread, "they stay in the journal, for they may be of a newer node")
        elif unread:
            for key in unread:
                self._kept.put(key, None)
            self._tell_of(unread, "they are removed")

    async def stop(self) -> None:
        """Write what the journal does not have yet."""
        await self._followed.stop()
        await self._kept.flush()

    def note(
        self,
        request: AdminRequest,
        status: int,
        *,
        action: str = "",
        target: str = "",
        by: str = "",
        role: Role | None = None,
        reason: str | None = None,
    ) -> None:
        """Write down a request and the status of its answer.

        ``by`` and ``role`` are given where the request cannot know them, ``target`` where its query is a secret.
        """
        self._last = max(self._last + 1, int(self._now()))  # beyond those that could not be read yet
        key = f"{self._last:012d}{self._node and '.'}{self._node}"
        entry = AuditEntry(
            id=key,
            at=self._now(),
            by=self._clean(by or request.by),
            role=role or request.role,
            action=action or request.method,
            target=self._clean(target or _target(request.path, request.query)),
            client=request.client,
            status=status,
            reason=None if reason is None else self._clean(reason),
            node=self._node,
        )
        self._add(entry)
        self._kept.put(key, msgspec.json.encode(entry))
        while len(self._entries) > MOST:
            oldest = next(iter(self._of_others if len(self._of_others) > MOST_OF_OTHERS else self._entries))
            del self._entries[oldest]
            self._of_others.pop(oldest, None)
            self._kept.put(oldest, None)
        self._observe(
            Occurrence(
                name="audit",
                by=entry.by,
                role=entry.role,
                action=entry.action,
                target=entry.target,
                client=entry.client,
                status=status,
                reason=entry.reason,
            )
        )

    def page(self, before: str | None, limit: int) -> tuple[list[AuditEntry], str | None]:
        """Return entries, newest first, that are older than the one with the id ``before``, and the next ``before``."""
        older = [each for each in reversed(self._entries.values()) if before is None or each.id < before]
        return older[:limit], older[limit - 1].id if len(older) > limit else None

    def _follow(self, documents: Mapping[str, bytes | None]) -> None:
        """Take the entries of other nodes."""
        unread: list[str] = []
        for key, document in documents.items():
            if document is None:
                self._entries.pop(key, None)
                self._of_others.pop(key, None)
            elif key in self._entries or self._kept.is_pending(key):
                continue
            elif not self._take(key, document) and key not in self._unread:
                unread.append(key)
        if unread:
            self._tell_of(unread, "they may be of a newer node")
        self._entries = dict(sorted(self._entries.items()))
        self._of_others = dict(sorted(self._of_others.items()))

    def _take(self, key: str, document: bytes) -> bool:
        """Add an entry of the journal; return False where it is none."""
        try:
            entry = msgspec.json.decode(document, type=AuditEntry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if entry.id != key or not is_id(key):
            return False
        self._add(entry)
        self._last = max(self._last, int(key.partition(".")[0]))
        return True

    def _tell_of(self, unread: Sequence[str], what_then: str) -> None:
        """Tell, once of each, of entries that cannot be read."""
        self._unread.update(unread)
        count = "1 entry" if len(unread) == 1 else f"{len(unread)} entries"
        reason = f"{count} of the audit cannot be read, {min(unread)!r} among them: {what_then}"
        self._observe(Occurrence(name="notice", count=len(unread), reason=reason))

    def _add(self, entry: AuditEntry) -> None:
        self._entries[entry.id] = entry
        if entry.role != "operator" or entry.status >= HTTPStatus.BAD_REQUEST:
            self._of_others[entry.id] = None

    def _clean(self, text: str) -> str:
        cut = self._redact(text[:_LONGEST])
        return cut.encode("utf-8", "replace").decode("utf-8")


def is_id(text: str) -> bool:
    """Return whether a text has the form of an entry's id."""
    return _ID.fullmatch(text) is not None


def _target(path: str, query: Mapping[str, str]) -> str:
    return path + ("?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "")
