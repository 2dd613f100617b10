"""How remotes are reached: the tables of repositories, owners and hosts, as managed repositories.

What a repository does not say of its credentials, its owner does, and else its host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.errors import ConfigError, StackitError
from stackit.api.events import Repo
from stackit.api.repos import DEFAULT_REFSPECS, DEFAULT_USER, ManagedRepo, TokenScheme
from stackit.config import checks, files
from stackit.text.escape import escape

DEFAULT_URL = "https://github.com/{repo}.git"

Where = Callable[[str], str]
"""From the name of a setting to where its value came from, for a message."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What each of the tables may say of tokens and keys."""

    token_file: Path | None = None
    token_user: str | None = None
    token_scheme: TokenScheme | None = None
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None


class RepoTable(Credentials, frozen=True, kw_only=True):
    """``[[repos]]`` as it stands in the file."""

    name: str
    url: str | None = None
    refspecs: tuple[str, ...] = DEFAULT_REFSPECS
    keep_forced: bool = False


class OwnerTable(Credentials, frozen=True, kw_only=True):
    """``[[owners]]``: credentials for every repository of an owner that names none of its own."""

    name: str


class HostTable(Credentials, frozen=True, kw_only=True):
    """``[[hosts]]``: TLS, and credentials for every repository at a host that has none from elsewhere.

    ``name`` is that of the host, or that and a port, ``git.example.org:8443``.
    """

    name: str
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class Place(msgspec.Struct, frozen=True):
    """A table, and how a message names it."""

    table: Any
    label: str


def managed_repos(
    repos: Sequence[RepoTable], owners: Sequence[OwnerTable], hosts: Sequence[HostTable], where: Where
) -> tuple[ManagedRepo, ...]:
    """The repositories, each with what its owner and its host say. Raises ConfigError."""
    by_owner = _by_name(owners, "owners", checks.owner, where)
    by_host = _by_name(hosts, "hosts", checks.host, where)
    for place in by_host.values():
        _check_tls(place)
    managed: dict[str, ManagedRepo] = {}
    for number, table in enumerate(repos, 1):
        name = where(f"repos[{number}].name")
        repo: Repo = checked(name, checks.repository, table.name)
        if repo.key in managed:
            raise ConfigError(f"{name}: {repo} is there twice (letter case does not count)")
        managed[repo.key] = _managed(repo, Place(table, where(f"repos[{number}] ({repo})")), by_owner, by_host)
    return tuple(managed.values())


def checked(where: str, check: Any, *values: Any) -> Any:
    """What the check returns. Raises ConfigError where it has something against the values."""
    try:
        return check(*values)
    except (ValueError, StackitError) as problem:
        raise ConfigError(escape(f"{where}: {problem}")) from None


def _by_name(tables: Sequence[Any], kind: str, check: Callable[[str], str], where: Where) -> dict[str, Place]:
    found: dict[str, Place] = {}
    for number, table in enumerate(tables, 1):
        place = Place(table, where(f"{kind}[{number}]"))
        name: str = checked(f"{place.label}.name", check, table.name)
        if name.lower() in found:
            raise ConfigError(f"{place.label}.name: {name} is there twice (letter case does not count)")
        settings = [each for each in table.__struct_fields__ if each != "name"]
        if all(getattr(table, each) is None for each in settings):
            raise ConfigError(f"{place.label}: says nothing of {table.name}; expected one of {', '.join(settings)}")
        _check_credentials(place)
        found[name.lower()] = place
    return found


def _managed(repo: Repo, place: Place, by_owner: Mapping[str, Place], by_host: Mapping[str, Place]) -> ManagedRepo:
    table: RepoTable = place.table
    url: str = table.url if table.url is not None else DEFAULT_URL.format(repo=repo)
    checked(f"{place.label}.url", checks.url, url)
    checked(f"{place.label}.refspecs", checks.refspecs, table.refspecs)
    _check_credentials(place)
    at = checks.location(url)
    host = None
    if at is not None:
        host = by_host.get(f"{at.host}:{at.port}") or by_host.get(at.host)
    others = [each for each in (by_owner.get(repo.owner.lower()), host) if each is not None]
    from_others = others if url.startswith("ssh:") else []
    keys: dict[str, Any] = {
        name: _for_ssh(name, place, from_others, url) for name in ("ssh_key_file", "known_hosts_file")
    }
    return ManagedRepo(
        repo=repo,
        url=url,
        refspecs=table.refspecs,
        keep_forced=table.keep_forced,
        **_token(place, others if url.startswith(("https:", "http:")) else [], url),
        **keys,
        **(_tls(host.table) if host is not None and url.startswith("https:") else {}),
    )


def _token(own: Place, others: Sequence[Place], url: str) -> dict[str, Any]:
    """The first token there is, with what its own table says of it."""
    for place in (own, *others):
        if place.table.token_file is not None:
            checked(f"{own.label}.url", checks.may_carry_token, url)
            return {
                "token_file": place.table.token_file,
                "token_user": place.table.token_user or DEFAULT_USER,
                "token_scheme": place.table.token_scheme or "basic",
            }
    return {}


def _for_ssh(name: str, own: Place, others: Sequence[Place], url: str) -> Path | None:
    file: Path | None = getattr(own.table, name)
    if file is not None and not url.startswith("ssh:"):
        raise ConfigError(f"{own.label}.{name}: of use for ssh:// only; leave it out")
    return next((found for each in (own, *others) if (found := getattr(each.table, name)) is not None), None)


def _tls(table: HostTable) -> dict[str, Any]:
    key = table.client_cert if table.client_key is None else table.client_key
    return {"ca_file": table.ca_file, "client_cert": table.client_cert, "client_key": key}


def _check_credentials(place: Place) -> None:
    table: Credentials = place.table
    for name, check in _credential_checks(table):
        checked(f"{place.label}.{name}", check, getattr(table, name))


def _credential_checks(table: Credentials) -> Iterator[tuple[str, Callable[[Any], object]]]:
    if table.token_file is not None:
        yield "token_file", lambda file: checks.token_files((file,))
    for name in ("token_user", "token_scheme"):
        if getattr(table, name) is not None and table.token_file is None:
            yield name, _refusing("of use beside a token_file only, in the same table")
    if table.token_user is not None:
        if table.token_scheme == "bearer":  # noqa: S105 - no secret
            yield "token_user", _refusing("a bearer token has no user name; leave it out")
        yield "token_user", checks.token_user
    if table.ssh_key_file is not None:
        yield "ssh_key_file", files.ssh_key
    if table.known_hosts_file is not None:
        yield "known_hosts_file", files.known_hosts


def _refusing(reason: str) -> Callable[[object], object]:
    def refuse(_: object) -> None:
        raise ValueError(reason)

    return refuse


def _check_tls(place: Place) -> None:
    table: HostTable = place.table
    if table.ca_file is not None:
        checked(f"{place.label}.ca_file", files.certificates, table.ca_file)
    if table.client_cert is not None:
        checked(f"{place.label}.client_cert", files.certificates, table.client_cert)
        key = table.client_cert if table.client_key is None else table.client_key
        checked(f"{place.label}.client_key", files.key_of, key, table.client_cert)
    elif table.client_key is not None:
        raise ConfigError(f"{place.label}.client_key: of use beside a client_cert only")
