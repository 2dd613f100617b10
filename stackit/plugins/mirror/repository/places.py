"""The place of each mirror on disk, by the name of its repository; a mirror is found by the identity in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from stackit import ManagedRepo, Repo
from stackit.plugins.mirror.repository.identity import read_identity, write_identity
from stackit.plugins.mirror.repository.leftovers import REPLACED, mirrors_on_disk

ASIDE = ".aside"
"""The folder of mirrors whose place another repository has. No owner's name begins with a dot."""


class Places:
    """The mirrors below a directory. Methods raise OSError.

    A mirror never lies at the place of another repository: it is put aside first, and is brought from there when its
    own repository is managed again. Each step is one rename, and what a crash leaves undone the next start does.
    """

    def __init__(self, directory: Path, notice: Callable[[Repo, str], None]) -> None:
        """``notice`` is told where a mirror lies that nobody moved on purpose."""
        self._directory = directory
        self._notice = notice
        self._known: dict[str, Path] = {}  # by Repo.path in lower case: names on disk may have capitals

    def look(self) -> None:
        """Read which mirrors are on disk, at the start."""
        self._known = mirrors_on_disk(self._directory)

    def is_known(self, managed: ManagedRepo) -> bool:
        """Return whether a mirror is aside, or at the place of a repository or of a former name, or was at the start.

        It may be that of another repository. Raises nothing.
        """
        names = (managed.repo, *map(Repo.parse, managed.former))
        if any(each.path.lower() in self._known for each in names):
            return True
        try:
            return managed.identity is not None and self._aside(managed.identity).exists()
        except OSError:  # a disk that gives no answer may have it
            return True

    def place(self, repo: Repo) -> Path:
        """Return where the mirror of a repository belongs."""
        return self._directory / f"{repo.path}.git"

    def clear(self, managed: ManagedRepo) -> None:
        """Put aside what lies at the place of a repository and is the mirror of another one."""
        place = self._spelled(managed.repo)
        found = read_identity(place) if managed.identity is not None else None
        if found is not None and found != managed.identity:
            self._put_aside(managed.repo, place, found)

    def settle(self, managed: ManagedRepo) -> None:
        """Bring the mirror of a repository to its place, wherever it lies, and have it remember its identity."""
        self.clear(managed)
        place, there = self.place(managed.repo), self._spelled(managed.repo)
        identity = managed.identity
        if identity is not None and read_identity(there) is None:
            kept = self._kept(managed, identity)
            if kept is not None:
                if there.exists():
                    self._put_aside(managed.repo, there, managed.repo.path)
                there = kept
            elif there.exists():
                write_identity(there, identity)
        if there != place and there.exists() and not (place.exists() and not place.samefile(there)):
            place.parent.mkdir(parents=True, exist_ok=True)
            there.rename(place)
        self._known[managed.repo.path.lower()] = place

    def accept(self, managed: ManagedRepo) -> bool:
        """Have the mirror at the place of a repository remember its identity; False if it is that of another one."""
        there = self._spelled(managed.repo)
        found = read_identity(there)
        if found is None and managed.identity is not None and there.exists():
            write_identity(there, managed.identity)
        return managed.identity is None or found in (None, managed.identity)

    def leave(self, managed: ManagedRepo) -> Path | None:
        """Put aside the mirror of a repository that gets another place, or whose place another one gets.

        Returns where it lies now; None where there is none, or no identity to find it by.
        """
        place = self._spelled(managed.repo)
        if managed.identity is None or not place.exists():
            return None
        if read_identity(place) is None:
            write_identity(place, managed.identity)
        return self._move_aside(managed.repo, place, managed.identity)

    def forget(self, managed: ManagedRepo) -> list[Path]:
        """Take the mirrors of a repository that is managed no more out of all places; return where they are deleted.

        What is not deleted then, the next start removes.
        """
        identity = managed.identity
        if identity is None:
            return []
        doomed: list[Path] = []
        for there in (self._spelled(managed.repo), self._aside(identity)):
            if read_identity(there) == identity:
                target = self._directory / REPLACED / f"{identity.replace(':', '+')}~{len(doomed)}"
                target.parent.mkdir(parents=True, exist_ok=True)
                there.rename(target)
                doomed.append(target)
        return doomed

    def find(self, managed: ManagedRepo) -> Path | None:
        """Return where the mirror of a repository lies, be it aside or at the place of a former name; None without one.

        That of another repository is none.
        """
        there = self._spelled(managed.repo)
        if there.exists() and (managed.identity is None or read_identity(there) in (None, managed.identity)):
            return there
        return None if managed.identity is None else self._kept(managed, managed.identity)

    def give_up(self, managed: ManagedRepo) -> list[Path]:
        """Take the mirrors of a repository out of all places, as ``forget`` does, where another node has it.

        One that has no identity is found by its place.
        """
        identity = managed.identity
        former = [] if identity is None else [self._kept(managed, identity)]
        doomed: list[Path] = []
        for there in (self._spelled(managed.repo), *former):
            if there is not None and there.exists() and read_identity(there) in (None, identity):
                folder, name = self._directory / REPLACED, managed.repo.path.replace("/", "+")
                folder.mkdir(parents=True, exist_ok=True)
                numbered = (folder / f"{name}~{number}" for number in itertools.count())
                target = next(each for each in numbered if not each.exists())
                there.rename(target)
                doomed.append(target)
        self._known.pop(managed.repo.path.lower(), None)
        return doomed

    def _spelled(self, repo: Repo) -> Path:
        """Return where the mirror of a repository lies, perhaps under an earlier spelling of its name."""
        known = self._known.get(repo.path.lower())
        return known if known is not None and known.exists() else self.place(repo)

    def _kept(self, managed: ManagedRepo, identity: str) -> Path | None:
        """Return where the mirror of an identity lies, if it is aside, or still has the place of a former name."""
        former = (self._spelled(Repo.parse(name)) for name in managed.former)
        return next((each for each in (self._aside(identity), *former) if read_identity(each) == identity), None)

    def _aside(self, name: str) -> Path:
        return self._directory / ASIDE / f"{name.replace(':', '+').replace('/', '+')}.git"

    def _put_aside(self, repo: Repo, place: Path, name: str) -> None:
        target = self._move_aside(repo, place, name)
        self._notice(repo, f"the mirror at {place} is that of another repository; it is kept in {target}")

    def _move_aside(self, repo: Repo, place: Path, name: str) -> Path:
        wanted = self._aside(name)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        numbered = (wanted.with_name(f"{wanted.stem}~{number}.git") for number in itertools.count(2))
        target = next(each for each in itertools.chain([wanted], numbered) if not each.exists())
        place.rename(target)
        self._known.pop(repo.path.lower(), None)
        return target
