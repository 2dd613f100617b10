"""Clients of the API that may see webhooks, and those that may change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from stackit.api.errors import StackitError
from stackit.api.repos import ManagedRepo, Repos
from stackit.api.token_file import read_token
from stackit.config.access import OwnerTable
from stackit.config.apps import GITHUB_API
from stackit.config.model import Config
from stackit.github.api import ApiClient, ApiClients, TokenCredential
from stackit.github.apps import Apps, GitHubApp, Narrowing
from stackit.github.hooks.target import HookTarget

_PERMISSIONS = {"owner": "organization_hooks", "repo": "repository_hooks"}
_WORDS = {"owner": "Organization permissions: Webhooks", "repo": "Repository permissions: Webhooks"}


class HookAccess:
    """Finds who may see or change a webhook.

    The webhook of an App is the App's own. For that of an organization or a repository it is the first of these: the
    ``token_file`` or the App of its own table, of its owner's table, else any App that is installed there. An App needs
    a permission for it that stackit does not need otherwise.
    """

    def __init__(self, apps: Apps, clients: ApiClients, repos: Repos, config: Callable[[], Config]) -> None:
        self._apps = apps
        self._clients = clients
        self._repos = repos
        self._config = config

    def app(self, target: HookTarget) -> GitHubApp:
        """Return the App of a webhook. Raises StackitError where there is none of the name."""
        return self._apps.named(target.name)

    async def client(self, target: HookTarget, *, write: bool = False) -> ApiClient:
        """Return a client for the webhook of a target. Raises StackitError that names what is lacking."""
        if target.kind == "app":
            app = self.app(target)
            app.check()
            return app.client
        owner = target.values.get("org") or target.values["owner"]
        problems: list[str] = []
        for each in self._candidates(target, owner):
            if isinstance(each, Path):
                credential = TokenCredential(str(each), partial(read_token, each))
                return self._clients.client(self._api_url(target, owner, each), credential)
            try:
                return await self._installed(each, target, owner, write=write)
            except StackitError as problem:
                problems.append(str(problem))
        if problems:
            raise StackitError("; ".join(dict.fromkeys(problems)))
        table = "repos" if target.kind == "repo" else "owners"
        raise StackitError(
            f"nothing may look at {target.label}: name a token_file with the permission for webhooks in [[{table}]], "
            "or an App"
        )

    def _candidates(self, target: HookTarget, owner: str) -> Iterator[Path | GitHubApp]:
        tables: list[ManagedRepo | OwnerTable] = []
        repo = target.repo
        managed = self._repos.get(repo) if repo is not None else None
        if managed is not None:
            tables.append(managed)
        of_owner = self._config().owners.get(owner.lower())
        if of_owner is not None:
            tables.append(of_owner.table)
        for table in tables:
            if table.token_file is not None:
                yield table.token_file
                return
            app = self._apps.get(table.app) if table.app is not None else None
            if app is not None:
                yield app
                return
        yield from self._apps

    async def _installed(self, app: GitHubApp, target: HookTarget, owner: str, *, write: bool) -> ApiClient:
        installation = await app.installation_for(owner)
        permission = _PERMISSIONS[target.kind]
        wanted = "write" if write else "read"
        enough = {wanted, "write", "admin"}
        if installation.record.permissions.get(permission) not in enough:
            await installation.look()  # it may have been granted meanwhile
        if installation.record.permissions.get(permission) not in enough:
            raise StackitError(
                f"the App {app.name} may not {'change' if write else 'see'} webhooks of {owner}: give it "
                f'"{_WORDS[target.kind]}: {"Read and write" if write else "Read-only"}", and accept that for {owner}'
            )
        return installation.client_for(Narrowing(permissions=((permission, wanted),)))

    def _api_url(self, target: HookTarget, owner: str, token: Path) -> str:
        """Return the API of the GitHub where the repositories of an owner are.

        A person may add one with any URL: that counts only if git has the token from the same file.
        """
        repo = target.repo
        own = self._repos.get(repo) if repo is not None else None
        of_owner = (each for each in self._repos if _is_owners(each, owner))
        known = (each for each in (own, *of_owner) if each is not None)
        managed = next((each for each in known if each.source != "people" or each.token_file == token), None)
        return GITHUB_API if managed is None else api_of(managed.url)


def api_of(url: str) -> str:
    """Return the address of the API of the GitHub that has a repository; ``url`` is where git fetches."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    if parts.scheme == "ssh":
        host = (parts.hostname or "").lower()
    if not host or host in ("github.com", "www.github.com"):
        return GITHUB_API
    if host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{'http' if parts.scheme == 'http' else 'https'}://{host}/api/v3"


def _is_owners(managed: ManagedRepo, owner: str) -> bool:
    return not managed.repo.host and managed.repo.owner.lower() == owner.lower() and "://" in managed.url
