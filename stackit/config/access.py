"""The tables of repositories, owners and hosts, as managed repositories with their credentials.

Credentials that a repository does not set come from its owner's table, else from its host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from stackit.api.errors import ConfigError
from stackit.api.events import Repo
from stackit.api.forge import GITHUB, Forge
from stackit.api.repos import DEFAULT_REFSPECS, DEFAULT_USER, ManagedRepo, TokenScheme
from stackit.config import checks, files, remotes
from stackit.config.apps import AppConfig, app_called
from stackit.config.mistakes import AT_ONCE, AlreadyNoted, Mistakes
from stackit.config.setting import Setting, Where, check_settings, checked
from stackit.text.escape import escape


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of tokens and keys, which each of the tables has."""

    token_file: Annotated[Path | None, Setting("a file with one token", checks.token_file)] = None
    token_user: Annotated[str | None, Setting("the user name beside the token", checks.token_user)] = None
    token_scheme: Annotated[TokenScheme | None, Setting('`"bearer"` sends the token by itself')] = None
    ssh_key_file: Annotated[Path | None, Setting("a private key for `ssh://`", files.ssh_key)] = None
    known_hosts_file: Annotated[Path | None, Setting("the keys of hosts for `ssh://`", files.known_hosts)] = None


AppName = Annotated[str | None, Setting("the name of the App in `[[apps]]` whose tokens git gets")]


# The names are checked where they are read: the check returns the name in its usual form.


class RepoTable(Credentials, frozen=True, kw_only=True):
    """``[[repos]]``: a repository to mirror."""

    name: Annotated[str, Setting('`"octo/widget"`')]
    forge: Annotated[str, Setting("the name of its forge")] = GITHUB
    url: Annotated[str | None, Setting("where git fetches", remotes.url)] = None
    app: AppName = None
    refspecs: Annotated[tuple[str, ...], Setting("which refs", remotes.refspecs)] = DEFAULT_REFSPECS
    keep_forced: Annotated[
        bool, Setting("whether the mirror keeps the old tip where a forced push replaces commits")
    ] = False
    secret_files: Annotated[
        tuple[Path, ...], Setting("files with a webhook secret each, which speaks for it alone", checks.readable_files)
    ] = ()


class OwnerTable(Credentials, frozen=True, kw_only=True):
    """``[[owners]]``: credentials for every repository of an owner on GitHub that names none of its own."""

    name: Annotated[str, Setting('`"octo"`')]
    app: AppName = None
    secret_files: Annotated[
        tuple[Path, ...],
        Setting("files with a webhook secret each, which speaks for its repositories alone", checks.readable_files),
    ] = ()


class HostTable(Credentials, frozen=True, kw_only=True):
    """``[[hosts]]``: TLS, and credentials for every repository at a host that has none from elsewhere."""

    name: Annotated[str, Setting('`"git.example.org"`, or with a port')]
    ca_file: Annotated[
        Path | None, Setting("certificates of the only authorities that are trusted for this host", files.certificates)
    ] = None
    client_cert: Annotated[Path | None, Setting("a certificate that stackit shows to the host", files.certificates)] = (
        None
    )
    client_key: Annotated[Path | None, Setting("the private key of `client_cert`")] = None


class Labelled(msgspec.Struct, frozen=True):
    """A table, with its label in messages."""

    table: Any
    label: str


class Access(msgspec.Struct, frozen=True):
    """The tables of owners and hosts, checked, and the Apps, each by name: the access to a repository by its name.

    Owners and Apps are in small letters, hosts as ``remotes.host`` returns them. ``homes`` are the origins of the
    repositories in the file to which the tokens of their owners go, each with the owner.
    """

    owners: Mapping[str, Labelled] = {}
    hosts: Mapping[str, Labelled] = {}
    apps: Mapping[str, AppConfig] = {}
    homes: frozenset[tuple[str, remotes.Origin]] = frozenset()

    def repo(self, table: RepoTable, forge: Forge, label: str) -> ManagedRepo:
        """Return a repository that is not in the file, with credentials as if it were. Raises ConfigError.

        Who asks for it may name any URL: the token of its owner goes only where the file has it go, or to GitHub.
        """
        repo: Repo = checked(label, remotes.repository, table.name, forge, key="name")
        given = self if table.url is None or self._is_home(repo, table.url, forge) else self._without(repo.owner)
        return _managed(repo, forge, Labelled(table, label), given, AT_ONCE)

    def _is_home(self, repo: Repo, url: str, forge: Forge) -> bool:
        """Return True where the token of an owner may go to a URL, or is of no use there."""
        if not url.startswith(("https:", "http:")):
            return True
        origin = remotes.origin(url)
        return (repo.owner.lower(), origin) in self.homes or origin == remotes.origin(forge.clone_url(repo))

    def _without(self, owner: str) -> Access:
        """Return the access without an owner's token; an App's goes nowhere but to its GitHub anyway."""
        owners = {
            name: place
            for name, place in self.owners.items()
            if name != owner.lower() or place.table.token_file is None
        }
        return msgspec.structs.replace(self, owners=owners)

    def tls(self, url: str) -> dict[str, Any]:
        """Return the settings of TLS for a URL, as ``ManagedRepo`` has them."""
        host = self.host(url)
        return _tls(host.table) if host is not None and url.startswith("https:") else {}

    def host(self, url: str) -> Labelled | None:
        """Return the table of the host of a URL."""
        at = remotes.location(url)
        return None if at is None else self.hosts.get(f"{at.host}:{at.port}") or self.hosts.get(at.host)

    def app(self, name: str, url: str) -> AppConfig | None:
        """Return the App of a name, if its tokens are for the host of a URL."""
        app = self.apps.get(name.lower())
        return app if app is not None and _is_at(url, app) else None


def access(
    owners: Sequence[OwnerTable | None],
    hosts: Sequence[HostTable | None],
    where: Where,
    mistakes: Mistakes = AT_ONCE,
    apps: Sequence[AppConfig] = (),
) -> Access:
    """Return the access of a configuration. Raises ConfigError. None stands for a table that could not be read."""
    apps_by_name = {each.name.lower(): each for each in apps}
    by_owner = _by_name(owners, "owners", remotes.owner, where, mistakes)
    by_host = _by_name(hosts, "hosts", remotes.host, where, mistakes)
    for place in by_host.values():
        with mistakes.noted():
            _check_tls(place)
    for place in by_owner.values():
        with mistakes.noted():
            _app(place, apps_by_name)
    return Access(by_owner, by_host, apps_by_name)


def homes(repos: Iterable[ManagedRepo], owners: Mapping[str, Labelled]) -> frozenset[tuple[str, remotes.Origin]]:
    """Return where repositories in the file have the tokens of their owners go."""
    tokens = {name: place.table.token_file for name, place in owners.items() if place.table.token_file is not None}
    return frozenset(
        (owner, remotes.origin(each.url))
        for each in repos
        if each.token_file is not None and tokens.get(owner := each.repo.owner.lower()) == each.token_file
    )


def managed_repos(
    repos: Sequence[RepoTable | None],
    given: Access,
    where: Where,
    forges: Mapping[str, Forge],
    mistakes: Mistakes = AT_ONCE,
) -> tuple[ManagedRepo, ...]:
    """Return the repositories, each with the credentials of its owner and its host. Raises ConfigError.

    ``forges`` are those that are installed, by name. None stands for a table that could not be read.
    """
    managed: dict[str, ManagedRepo] = {}
    for number, table in enumerate(repos, 1):
        if table is None:
            continue
        name = where(f"repos[{number}].name")
        with mistakes.noted():
            forge = forges.get(table.forge)
            if forge is None:
                known = ", ".join(sorted(forges))
                at = where(f"repos[{number}].forge")
                raise ConfigError(escape(f"{at}: no forge is called {table.forge[:40]!r} (there are: {known})"))
            repo: Repo = checked(name, remotes.repository, table.name, forge, key="name")
            if repo.key in managed:
                raise ConfigError(f"{name}: {repo} is there twice (letter case does not count)")
            labelled = Labelled(table, where(f"repos[{number}] ({repo})"))
            managed[repo.key] = _managed(repo, forge, labelled, given, mistakes)
    return tuple(managed.values())


def _by_name(
    tables: Sequence[Any], kind: str, check: Callable[[str], str], where: Where, mistakes: Mistakes
) -> dict[str, Labelled]:
    found: dict[str, Labelled] = {}
    for number, table in enumerate(tables, 1):
        if table is None:
            continue
        place = Labelled(table, where(f"{kind}[{number}]"))
        with mistakes.noted():
            name: str = checked(f"{place.label}.name", check, table.name, key="name")
            if name.lower() in found:
                raise ConfigError(f"{place.label}.name: {name} is there twice (letter case does not count)")
            settings = [each for each in table.__struct_fields__ if each != "name"]
            if all(getattr(table, each) in (None, ()) for each in settings):
                raise ConfigError(f"{place.label}: says nothing of {table.name}; expected one of {', '.join(settings)}")
            check_settings(table, _within(place), mistakes=mistakes)
            _check_token(place)
            found[name.lower()] = place
    return found


def _managed(
    repo: Repo,
    forge: Forge,
    place: Labelled,
    given: Access,
    mistakes: Mistakes,
) -> ManagedRepo:
    table: RepoTable = place.table
    noted = len(mistakes.found)
    check_settings(table, _within(place), mistakes=mistakes)
    if len(mistakes.found) > noted:
        raise AlreadyNoted
    _check_token(place)
    owner = None if repo.host else given.owners.get(repo.owner.lower())  # a token for GitHub is no other forge's
    app = _app_of(place, owner, repo, given.apps)
    url: str = table.url if table.url is not None else checked(place.label, _clone_url, repo, forge, app)
    host = given.host(url)
    others = [each for each in (owner, host) if each is not None]
    if app is not None and not _is_at(url, app):
        if table.app is not None:
            raise ConfigError(
                escape(f"{place.label}.app: the tokens of {app.name} are for repositories below {app.web_url} only")
            )
        app = None  # that of the owner: a repository elsewhere has no use for it
    from_others = others if url.startswith("ssh:") else []
    keys: dict[str, Any] = {
        name: _for_ssh(name, place, from_others, url) for name in ("ssh_key_file", "known_hosts_file")
    }
    return ManagedRepo(
        repo=repo,
        url=url,
        refspecs=table.refspecs,
        keep_forced=table.keep_forced,
        app=None if app is None else app.name,
        **({} if app else _token(place, others if url.startswith(("https:", "http:")) else [], url)),
        **keys,
        **given.tls(url),
    )


def _app(place: Labelled, apps: Mapping[str, AppConfig]) -> AppConfig | None:
    """Return the App that a table names, None for one that names none. Raises ConfigError for one that is unknown."""
    table: RepoTable | OwnerTable = place.table
    if table.app is None:
        return None
    if table.token_file is not None:
        raise ConfigError(f"{place.label}.app: the table has a token_file, too; leave one of them out")
    return app_called(table.app, apps, f"{place.label}.app")


def _app_of(own: Labelled, owner: Labelled | None, repo: Repo, apps: Mapping[str, AppConfig]) -> AppConfig | None:
    """Return the App of the first table that has a token, if that is an App's."""
    if own.table.app is not None and repo.host:
        raise ConfigError(f"{own.label}.app: an App is of use for repositories on GitHub only; leave it out")
    app = _app(own, apps)
    if app is not None or own.table.token_file is not None or owner is None:
        return app
    return apps.get(owner.table.app.lower()) if owner.table.app is not None else None


def _clone_url(repo: Repo, forge: Forge, app: AppConfig | None) -> str:
    return remotes.clone_url(repo, forge) if app is None else f"{app.web_url}/{repo}.git"


def _is_at(url: str, app: AppConfig) -> bool:
    """Return True if a URL is at the GitHub that made an App: its tokens must reach no other host, nor go in clear."""
    return remotes.location(url) is not None and remotes.origin(url) == remotes.origin(app.web_url)


def _token(own: Labelled, others: Sequence[Labelled], url: str) -> dict[str, Any]:
    """Return the token settings of the first table that has a token."""
    for place in (own, *others):
        if place.table.token_file is not None:
            checked(f"{own.label}.url", remotes.may_carry_token, url)
            return {
                "token_file": place.table.token_file,
                "token_user": place.table.token_user or DEFAULT_USER,
                "token_scheme": place.table.token_scheme or "basic",
            }
    return {}


def _for_ssh(name: str, own: Labelled, others: Sequence[Labelled], url: str) -> Path | None:
    file: Path | None = getattr(own.table, name)
    if file is not None and not url.startswith("ssh:"):
        raise ConfigError(f"{own.label}.{name}: of use for ssh:// only; leave it out")
    return next((found for each in (own, *others) if (found := getattr(each.table, name)) is not None), None)


def _tls(table: HostTable) -> dict[str, Any]:
    key = table.client_cert if table.client_key is None else table.client_key
    return {"ca_file": table.ca_file, "client_cert": table.client_cert, "client_key": key}


def _within(place: Labelled) -> Where:
    return lambda setting: f"{place.label}.{setting}"


def _check_token(place: Labelled) -> None:
    table: Credentials = place.table
    for name in ("token_user", "token_scheme"):
        if getattr(table, name) is not None and table.token_file is None:
            raise ConfigError(f"{place.label}.{name}: of use beside a token_file only, in the same table")
    if table.token_user is not None and table.token_scheme == "bearer":  # noqa: S105 - no secret
        raise ConfigError(f"{place.label}.token_user: a bearer token has no user name; leave it out")


def _check_tls(place: Labelled) -> None:
    table: HostTable = place.table
    if table.client_cert is not None:
        key = table.client_cert if table.client_key is None else table.client_key
        checked(f"{place.label}.client_key", files.key_of, key, table.client_cert)
    elif table.client_key is not None:
        raise ConfigError(f"{place.label}.client_key: of use beside a client_cert only")
