"""The scopes of webhook secrets, and the events that a secret of a scope may tell of, as far as names say.

A scope is ``app:NAME``, ``owner:OWNER`` or ``repo:OWNER/NAME``; names of owners and repositories in any letter case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stackit.api.events import Event, Repo

APP, OWNER, REPO = "app", "owner", "repo"


def scope(kind: str, name: object) -> str:
    """Return the scope of an App, an owner or a repository."""
    return f"{kind}:{name}"


def speaks_for(scope: str, event: Event, managed: Callable[[Repo], object] = lambda _: None) -> bool:
    """Return whether the secret of a scope may tell of an event.

    That of a repository tells of that repository alone, also by another name that it has by now: ``managed`` returns
    the managed repository of a name or a former name, None for no such. That of an owner tells of the owner's
    repositories, and of what the owner's organization hook sends without a repository. That of an App may tell of
    anything here: names do not say which App has a repository.
    """
    kind, _, name = scope.partition(":")
    if kind == APP:
        return True
    repo, name = event.repo, name.lower()
    if kind == REPO:
        return repo is not None and (repo.key == name or _is_renamed(name, repo, managed))
    if kind != OWNER:
        return False
    if repo is not None:
        return not repo.host and repo.owner.lower() == name
    return bool(name) and _organization(event.body).lower() == name


def _is_renamed(name: str, repo: Repo, managed: Callable[[Repo], object]) -> bool:
    """Return whether a repository is the one that the scope calls by a former name."""
    found = managed(repo)
    try:
        return found is not None and managed(Repo.parse(name)) is found
    except ValueError:
        return False


class _Account(msgspec.Struct):
    login: Any = None


class _Body(msgspec.Struct):
    organization: _Account | None = None


_BODY = msgspec.json.Decoder(_Body)


def _organization(body: bytes) -> str:
    """Return the login of the organization that a body names; "" without one."""
    try:
        account = _BODY.decode(body).organization
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return account.login if account is not None and isinstance(account.login, str) else ""
