"""The webhook secrets that speak for an App, an owner or a repository alone: ``secret_files`` of their tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from stackit.api.forge import GITHUB, Forge
from stackit.config import remotes
from stackit.config.access import OwnerTable, RepoTable
from stackit.config.apps import AppConfig


class ScopedSecret(msgspec.Struct, frozen=True):
    """A file with a webhook secret of a forge, and its scope: ``app:main``, ``owner:octo`` or ``repo:octo/widget``."""

    scope: str
    file: Path
    forge: str = GITHUB


def scoped_secrets(
    repos: Sequence[RepoTable | None],
    owners: Sequence[OwnerTable | None],
    apps: Sequence[AppConfig],
    forges: Mapping[str, Forge],
) -> tuple[ScopedSecret, ...]:
    """Return the secrets of Apps, owners and repositories; None stands for a table that could not be read.

    A name that is not allowed is left out here: ``managed_repos`` says so.
    """
    found = [ScopedSecret(f"app:{app.name}", file) for app in apps for file in app.secret_files]
    for owner in owners:
        if owner is not None and owner.secret_files:
            with suppress(ValueError):
                scope = f"owner:{remotes.owner(owner.name)}"
                found += [ScopedSecret(scope, file) for file in owner.secret_files]
    for repo in repos:
        if repo is not None and repo.secret_files and repo.forge in forges:
            with suppress(ValueError):
                scope = f"repo:{remotes.repository(repo.name, forges[repo.forge])}"
                found += [ScopedSecret(scope, file, repo.forge) for file in repo.secret_files]
    return tuple(found)


def by_file(secrets: Iterable[ScopedSecret], forge: str) -> Mapping[Path, Sequence[str]]:
    """Return the scopes of each file of a forge."""
    found: dict[Path, list[str]] = defaultdict(list)
    for each in secrets:
        if each.forge == forge:
            found[each.file].append(each.scope)
    return found
