"""A listing compared with what is known, by id: what is new, changed, moved, left out or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from stackit.api.events import Repo
from stackit.github.discovery.listed import ListedRepo
from stackit.github.discovery.rules import Decision


class Known(msgspec.Struct, frozen=True):
    """A repository that is known: its id, its name now, and whether it is mirrored.

    ``details`` is all else that a listing may change, such as its installation and what its rule says of the mirror.
    """

    id: int
    repo: Repo
    mirrored: bool = True
    details: object = None


class Found(msgspec.Struct, frozen=True):
    """A repository of a listing, with the decision on it. ``details`` as in ``Known``."""

    listed: ListedRepo
    decision: Decision
    details: object = None

    @property
    def id(self) -> int:
        """Return the forge's id of the repository."""
        return self.listed.id

    @property
    def repo(self) -> Repo:
        """Return the name of the repository."""
        return self.listed.repo


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of a listing changes.

    ``added`` are not mirrored yet, ``changed`` have other details, ``moved`` another name. ``contested`` would be added
    or moved, but their name is still that of another repository. ``left_out`` are mirrored, and a rule leaves them out.
    """

    added: tuple[Found, ...] = ()
    changed: tuple[Found, ...] = ()
    moved: tuple[Found, ...] = ()
    contested: tuple[Found, ...] = ()
    left_out: tuple[Found, ...] = ()


def difference(found: Iterable[Found], known: Mapping[int, Known], names: Mapping[str, int]) -> Difference:
    """Compare repositories of a listing with those that are ``known``, by id.

    ``names`` has the id of the mirrored repository of each name, by ``Repo.key``. What is ``added`` and ``moved``,
    taken together, gives no name to two repositories: renames in a circle are among them where ``found`` has all of
    them.
    """
    added: list[Found] = []
    changed: list[Found] = []
    moved: list[Found] = []
    left_out: list[Found] = []
    for each in found:
        before = known.get(each.id)
        if not each.decision.mirrored:
            if before is not None and before.mirrored:
                left_out.append(each)
        elif before is None or not before.mirrored:
            added.append(each)
        elif before.repo != each.repo:
            moved.append(each)
        elif before.details != each.details:
            changed.append(each)
    contested = _contested([*added, *moved], names)
    return Difference(
        added=tuple(each for each in added if each.id not in contested),
        changed=tuple(changed),
        moved=tuple(each for each in moved if each.id not in contested),
        contested=tuple(each for each in (*added, *moved) if each.id in contested),
        left_out=tuple(left_out),
    )


def missing(known: Mapping[int, Known], listed: Collection[int]) -> tuple[Known, ...]:
    """Return the mirrored repositories that a complete listing does not show."""
    return tuple(each for each in known.values() if each.mirrored and each.id not in listed)


def _contested(wanting: Sequence[Found], names: Mapping[str, int]) -> set[int]:
    """Return the ids whose new name another repository keeps, or wants as well."""
    wanted = {each.id: each.repo.key for each in wanting}
    times = Counter(wanted.values())
    contested = {number for number, key in wanted.items() if times[key] > 1}
    while True:  # one that may not move keeps its name, which may stop the next
        blocked = {
            number
            for number, key in wanted.items()
            if number not in contested
            and (keeper := names.get(key, number)) != number
            and (keeper not in wanted or keeper in contested)
        }
        if not blocked:
            return contested
        contested |= blocked
