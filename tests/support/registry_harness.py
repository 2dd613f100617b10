"""A registry over a journal in memory, and the changes that it told of."""

from __future__ import annotations

from typing import Any

from memory_journal import MemoryJournal

from stackit import ManagedRepo, RefChange, Repo, ReposChange
from stackit.registry import Batch, Discovered, Record, Registry, Seen

NOW = 1_000.0


def url(name: str) -> str:
    """The URL of a repository at the forge."""
    return f"https://github.com/{name}.git"


def configured(*names: str) -> list[ManagedRepo]:
    """Repositories of the configuration."""
    return [ManagedRepo(repo=Repo.parse(name), url=url(name)) for name in names]


def found(number: int, name: str, **fields: Any) -> Discovered:
    """A repository that a rule takes."""
    values = {"rule": "discover[1]", "app": "main", "installation": 5, **fields}
    return Discovered(id=number, repo=Repo.parse(name), url=url(name), **values)


def seen(number: int, name: str) -> Seen:
    """A repository that no rule takes."""
    return Seen(id=number, repo=Repo.parse(name), url=url(name))


def build(record: Record) -> ManagedRepo:
    """Make a managed repository of a record."""
    return ManagedRepo(
        repo=record.repo,
        url=record.url,
        id=record.id,
        realm=record.realm,
        source=record.source,
        added_by=record.added_by,
        former=record.former,
        app=record.app,
        refspecs=record.refspecs,
    )


class RegistryHarness:
    """A registry, what it told of, and another one over the same journal: as after a restart."""

    def __init__(self, *file: str) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.reactor: Any = reactor
        self.journal = MemoryJournal(self.reactor)
        self.changes: list[ReposChange] = []
        self.notices: list[str] = []
        self.registry = self.start(*file)

    def start(self, *file: str) -> Registry:
        """Start anew with this configuration."""
        self.registry = Registry(
            configured(*file),
            build=build,
            journal=self.journal,
            reactor=self.reactor,
            now=lambda: NOW,
            notice=self.notices.append,
            source="twistd.conf",
        )
        self.registry.load()
        self.registry.repos.on_change(self.changes.append)
        return self.registry

    async def discover(self, *items: Discovered | Seen, **fields: Any) -> ReposChange:
        """Have the registry take a batch."""
        batch = Batch(
            found=tuple(each for each in items if isinstance(each, Discovered)),
            seen=tuple(each for each in items if isinstance(each, Seen)),
            **fields,
        )
        return await self.registry.discovered(batch)

    def names(self) -> dict[str, int | None]:
        """The managed repositories and their ids."""
        return {str(each.repo): each.id for each in self.registry.repos}

    async def announce(self, name: str, oid: str) -> None:
        """Announce that the main branch of a repository is at an object."""
        change = RefChange("refs/heads/main", "0" * 40, oid, "created")
        await self.journal.announce(name, (change,), "start", None, NOW, [])

    async def announced(self, name: str) -> str | None:
        """Where the main branch of a repository was announced to be."""
        return (await self.journal.announced(name)).get("refs/heads/main")


def told(change: ReposChange) -> dict[str, list[str]]:
    """The names in a change, without what is empty."""
    named = {
        name: [str(each.repo) for each in getattr(change, name)] for name in ("added", "removed", "changed", "purged")
    }
    named["moved"] = [f"{old.repo} > {new.repo}" for old, new in change.moved]
    return {name: sorted(each) for name, each in named.items() if each}
