"""The records of repositories, as the journal keeps them: what has each mirrored, and its id and names."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit.api.events import Repo
from stackit.api.repos import DEFAULT_REFSPECS, REALM, RepoSource, identity

COLLECTION = "repos"
"""The collection of the journal that has the records."""

RecordState = Literal["managed", "held", "removed"]
"""``managed``; ``held``, which is managed although its listing does not show it any more; or ``removed``."""

_MOST_FORMER = 20
"""Former names that are kept."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A repository that the journal knows of.

    ``source`` is what has it mirrored; a record with the source ``file`` only keeps the id of a repository of the
    configuration. ``id`` is the forge's id within its ``realm``, None where it is not known. ``url`` is where git
    fetches. ``rule`` names the rule that found it, ``app`` and ``installation`` have access to it; ``token_file`` is
    that of its rule. ``deletes``: the rule has its mirror deleted, some time after it is gone.

    ``added_by`` is who or what had it added, ``added_at`` when, in epoch seconds; ``reason`` says why it is held or
    removed, and ``removed_at`` since when. ``former`` are keys of names that it had. ``kept_as`` is its name in the
    configuration, which had it from ``kept_url``, where the forge has another one by now. ``parked``: its announced
    refs are kept by its identity, because another repository has its name.
    """

    repo: Repo
    url: str
    source: RepoSource
    id: int | None = None
    realm: str = REALM
    rule: str = ""
    app: str | None = None
    installation: int | None = None
    token_file: str | None = None
    refspecs: tuple[str, ...] = DEFAULT_REFSPECS
    keep_forced: bool = False
    deletes: bool = False
    added_by: str = ""
    added_at: float = 0.0
    state: RecordState = "managed"
    reason: str = ""
    removed_at: float | None = None
    former: tuple[str, ...] = ()
    kept_as: Repo | None = None
    kept_url: str = ""
    parked: bool = False

    @property
    def key(self) -> str:
        """The key of its document: its identity, or its name where no id is known."""
        return f"name:{self.repo.key}" if self.id is None else identity(self.realm, self.id)

    @property
    def name(self) -> str:
        """The key of the name under which it is mirrored."""
        return (self.kept_as or self.repo).key

    @property
    def is_managed(self) -> bool:
        """True unless it is removed."""
        return self.state != "removed"

    def renamed(self, repo: Repo, url: str) -> Record:
        """Return it with another name at the forge, and the present one among the former ones."""
        former = [each for each in (*self.former, self.repo.key) if each != repo.key]
        former = list(dict.fromkeys(former))[-_MOST_FORMER:]
        return msgspec.structs.replace(self, repo=repo, url=url, former=tuple(former))


_DECODER = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the document of a record."""
    return msgspec.json.encode(record)


def decode(document: bytes) -> Record:
    """Return the record of a document. Raises ValueError for one that is none, or whose names are none."""
    try:
        record = _DECODER.decode(document)
    except msgspec.DecodeError as problem:
        raise ValueError(str(problem)) from None
    for repo in (record.repo, record.kept_as):
        if repo is not None and Repo.parse(str(repo)) != repo:
            raise ValueError(f"not a repository name: {str(repo)[:80]!r}")
    return record
