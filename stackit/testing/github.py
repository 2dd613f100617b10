"""A pretend GitHub on loopback: real git repositories over smart HTTP, and a webhook that sends signed deliveries."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.events import Repo
from stackit.api.reactor import Reactor
from stackit.testing.bare import BareRepository, RefMoved
from stackit.testing.deliveries import HOOK_ID
from stackit.testing.faults import PAUSE, FaultKind
from stackit.testing.github_api.administration import Administration
from stackit.testing.github_api.api import PretendApi
from stackit.testing.github_api.apps import Apps
from stackit.testing.github_api.changes import Change, Changes
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.credentials import Authenticator
from stackit.testing.github_api.git_access import GitAccess
from stackit.testing.github_api.hooks import Hook, HookConfig, Hooks
from stackit.testing.github_api.lifecycle import Lifecycle
from stackit.testing.github_api.logins import Logins
from stackit.testing.github_api.manifests import Manifests
from stackit.testing.github_api.members import Members
from stackit.testing.github_api.owners import Owners
from stackit.testing.github_api.publisher import Publisher
from stackit.testing.github_api.repositories import HostedRepository, Repositories, Visibility
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.routes.accounts import AccountRoutes
from stackit.testing.github_api.routes.apps import AppRoutes
from stackit.testing.github_api.routes.comments import CommentRoutes
from stackit.testing.github_api.routes.hooks import HookRoutes
from stackit.testing.github_api.routes.logins import LoginRoutes
from stackit.testing.github_api.routes.manifests import ManifestRoutes
from stackit.testing.github_api.routes.memberships import MembershipRoutes
from stackit.testing.github_api.routes.repositories import RepositoryRoutes
from stackit.testing.github_api.site import BASE, GitHubSite
from stackit.testing.github_api.tokens import Tokens
from stackit.testing.listening import LoopbackSite
from stackit.testing.objects import Json, push_payload
from stackit.testing.smarthttp import GitRequest, SmartHttp
from stackit.testing.webhooks import DeliverySent

MAIN = "refs/heads/main"


class PretendGitHub:
    """GitHub, as far as stackit sees it. Repositories are named ``owner/name``, in any letter case.

    Nothing it does needs an account, a network or the user's git configuration, and its commits are the same on
    every run of the same steps. Methods raise LookupError for a repository that was not created, ``GitFailed``
    where git refuses.

    ``clock`` is its wall clock, ``now`` moved by what a test asks for. ``apps``, ``owners``, ``repositories`` and
    ``tokens`` are what it knows; ``admin`` changes repositories and owners, and ``changes`` tells of it; ``api`` is
    its API, with ``router``.
    """

    _git_server: type[SmartHttp] = SmartHttp
    """What serves git: a test may have another."""

    _reactor: Reactor
    _site: LoopbackSite

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.clock = SettableClock(now)
        self.changes = Changes()
        self.owners = Owners()
        self.repositories = Repositories(self.owners)
        self.apps = Apps(self.clock, self.owners, self.repositories, self.changes)
        self.members = Members()
        self.admin = Administration(self.owners, self.repositories, self.apps, self.changes, self.members)
        self.tokens = Tokens(self.clock, self.owners)
        self._git_access = GitAccess(self.repositories, self.tokens)
        self.router = Router()
        AppRoutes(self.apps, self.owners, self.repositories, self.tokens).add_to(self.router)
        RepositoryRoutes(self.owners, self.repositories).add_to(self.router)
        self.comments = CommentRoutes(self.repositories, self.clock)
        self.comments.add_to(self.router)
        self.api = PretendApi(self.router, Authenticator(self.apps, self.tokens, self.clock), self.clock)
        AccountRoutes(self.owners, self.api.limits).add_to(self.router)
        MembershipRoutes(self.owners, self.members).add_to(self.router)
        self.hooks = Hooks(self.clock.now)
        HookRoutes(self.hooks, self.owners, self.repositories).add_to(self.router)
        self.logins = Logins(self.tokens, self.clock, self.changes)
        LoginRoutes(self.apps, self.logins).add_to(self.router)
        manifests = Manifests(self.apps, self.hooks, self.clock)
        ManifestRoutes(manifests, self.owners, self.logins).add_to(self.router)
        self._publisher = Publisher(self.hooks, self.apps)
        self.lifecycle = Lifecycle(self._publisher, self.apps, lambda: self.web_url, lambda: self.api_url)
        self.changes.observe(self.lifecycle.changed)

    async def start(self, reactor: Reactor, directory: Path) -> None:
        """Listen on a free loopback port; keep repositories under ``directory``."""
        self._reactor = reactor
        self.hooks.start(reactor)
        self._directory = directory
        self._git = self._git_server(reactor, self._git_access.admit)
        self.api.start(reactor)
        self._root = GitHubSite(reactor, self._git, self.api, self.clock)
        self._site = LoopbackSite(reactor, self._root)

    async def stop(self) -> None:
        """Stop listening, end every running git, close every connection. The repositories stay on disk."""
        await self._root.stop()
        await self._site.close()
        await self.hooks.close()

    # Repositories

    async def create(
        self,
        repo: Repo | str,
        *,
        private: bool = False,
        private_token: str | None = None,
        object_format: str = "sha1",
        default_branch: str = "main",
    ) -> str:
        """Make an empty repository, and return the URL to clone it from.

        A ``private`` one may be read by tokens that reach it only, as the password of Basic authentication (user
        ``x-access-token``); ``private_token`` is one more of them. ``object_format`` is git's: ``sha1`` or
        ``sha256``.
        """
        found = _repo(repo)
        bare = self._bare(found, object_format, default_branch)
        visibility: Visibility = "private" if private or private_token is not None else "public"
        made = self.repositories.add(found, bare, visibility=visibility, private_token=private_token)
        await bare.init()
        await self.changes.tell(Change(kind="repository.created", repository=made))
        return self.url(found)

    async def create_many(self, owner: str, count: int, *, name: str = "r", private: bool = True) -> list[str]:
        """Make ``count`` repositories with one commit each, and return their names: ``owner/r00001`` and so on.

        They cost nothing on disk until git or a test asks for one. Nobody is told of them.
        """
        template = self._bare(Repo(owner, f".{name}"), "sha1", "main")
        await template.init()
        await template.commit(MAIN, None)
        visibility: Visibility = "private" if private else "public"
        names = [Repo(owner, f"{name}{number:05}") for number in range(1, count + 1)]
        for each in names:
            bare = self._bare(each, "sha1", "main")
            self.repositories.add(each, bare, visibility=visibility, template=template.path)
        return [str(each) for each in names]

    def _bare(self, repo: Repo, object_format: str, default_branch: str) -> BareRepository:
        path = self._directory / f"{repo.key}.git"
        if path.exists():  # of a repository that had this name
            path = path.with_name(f"{path.stem}-{self.repositories.made}.git")
        return BareRepository(self._reactor, repo, path, object_format=object_format, default_branch=default_branch)

    @property
    def web_url(self) -> str:
        """The address of the site: of git, and of the API without a base path, as github.com's has none."""
        return f"http://127.0.0.1:{self._site.port}"

    @property
    def api_url(self) -> str:
        """The address of the API below ``/api/v3``, as on GitHub Enterprise Server."""
        return f"{self.web_url}{BASE}"

    def url(self, repo: Repo | str) -> str:
        """Return the URL that git clones a repository from."""
        return f"{self.web_url}/{_repo(repo)}.git"

    def path(self, repo: Repo | str) -> Path:
        """Return the path of the bare repository."""
        return self._of(repo).bare.path

    async def refs(self, repo: Repo | str) -> dict[str, str]:
        """Return every ref with its object id."""
        return await self._of(repo).bare.refs()

    async def git(self, repo: Repo | str, *arguments: str) -> str:
        """Run a git command in the repository, and return its output."""
        return await self._of(repo).bare.git(*arguments)

    # Changes that nobody is told of

    async def commit(
        self, repo: Repo | str, ref: str = MAIN, message: str | None = None, *, count: int = 1
    ) -> RefMoved:
        """Put ``count`` commits on top of ``ref``; a new ref begins at the tip of the default branch."""
        return await self._of(repo).bare.commit(ref, message, count=count)

    async def force(self, repo: Repo | str, ref: str = MAIN, message: str | None = None) -> RefMoved:
        """Replace the last commit of ``ref`` by another, so that its old tip is no ancestor of the new."""
        bare = self._of(repo).bare
        _, *parents = (await bare.git("rev-list", "--parents", "--max-count=1", ref)).split()
        return await bare.commit(ref, message, parent=next(iter(parents), ""))

    async def set_ref(self, repo: Repo | str, ref: str, target: str) -> RefMoved:
        """Make or move any ref, ``refs/stackit/x`` or a tag for instance, to an object id or another ref."""
        return await self._of(repo).bare.set_ref(ref, target)

    async def delete_ref(self, repo: Repo | str, ref: str) -> RefMoved:
        """Delete a ref."""
        return await self._of(repo).bare.set_ref(ref, None)

    async def rename_default_branch(self, repo: Repo | str, name: str) -> tuple[RefMoved, RefMoved]:
        """Rename the default branch: make the new one, point HEAD to it, delete the old one."""
        bare = self._of(repo).bare
        old, new = f"refs/heads/{bare.default_branch}", f"refs/heads/{name}"
        made = await bare.set_ref(new, old)
        await bare.git("symbolic-ref", "HEAD", new)
        bare.default_branch = name
        return made, await bare.set_ref(old, None)

    # The webhook

    def webhook(self, url: str, secret: str | bytes, *, hook_id: int = HOOK_ID, form: bool = False) -> None:
        """Send the pushes of all repositories to ``url``, signed with ``secret``; there is one such webhook.

        Those of Apps, organizations and repositories (``hooks``) send theirs besides, and what became of repositories.
        """
        if self.hooks.of(None, 0):
            raise RuntimeError("there is a webhook already")
        config = HookConfig(url=url, secret=secret, content_type="form" if form else "json")
        self.hooks.create(None, 0, config, events=["push"], number=hook_id)

    async def push(
        self,
        repo: Repo | str,
        ref: str = MAIN,
        message: str | None = None,
        *,
        count: int = 1,
        guid: str | None = None,
    ) -> DeliverySent:
        """Commit, and send the delivery to every webhook that has the repository."""
        return await self.announce(await self.commit(repo, ref, message, count=count), guid=guid)

    async def announce(self, moved: RefMoved, *, guid: str | None = None) -> DeliverySent:
        """Send the delivery of an earlier change to a branch or a tag to every webhook that has the repository.

        Return the outcome of the one that ``webhook`` made, or else of the first. Raises ValueError for any other
        ref: GitHub announces no push for it.
        """
        if not moved.ref.startswith(("refs/heads/", "refs/tags/")):
            raise ValueError(f"GitHub announces no push for {moved.ref}: make the change with commit() or set_ref()")
        payload = push_payload(
            moved.repo,
            moved.ref,
            moved.before,
            moved.after,
            forced=moved.forced,
            commits=moved.commits,
            repository_object=self.repository(moved.repo),
        )
        if not self.hooks:
            raise RuntimeError("there is no webhook yet: call webhook(url, secret) first")
        sent = await self._publisher.of_repository("push", payload, self._of(moved.repo), guid=guid)
        first = sent[0] if sent else DeliverySent(guid="", status=None, seconds=0.0, error="no webhook wants it")
        return msgspec.structs.replace(first, moved=moved)

    async def send(
        self, event: str, payload: Mapping[str, Any] | bytes | None = None, *, guid: str | None = None
    ) -> DeliverySent:
        """Send a delivery of any event by the webhook that ``webhook`` made; without ``payload``, one is made up."""
        return await self.hooks.send(self._hook(), event, payload, guid=guid)

    async def redeliver(self, guid: str) -> DeliverySent:
        """Send a delivery again with its old id, also one that was lost. Raises LookupError."""
        hook = self._hook()
        record = hook.deliveries.latest(guid)
        if record is None:
            raise LookupError(f"no delivery {guid} was ever made, or it is too long ago")
        return await self.hooks.redeliver(hook, record)

    def lose_next(self, count: int = 1) -> None:
        """Do not send the next ``count`` deliveries of any webhook, as on a bad day of GitHub's."""
        if not self.hooks:
            raise RuntimeError("there is no webhook yet: call webhook(url, secret) first")
        for each in self.hooks:
            each.spoil("lost", count)

    def repository(self, repo: Repo | str) -> Json:
        """Return the repository as payloads show it."""
        return self._of(repo).json(self.web_url)

    # Faults, and what git clients asked

    def fault(self, repo: Repo | str, kind: FaultKind, *, times: int | None = None, pause: float = PAUSE) -> None:
        """Give git clients a fault from now on: for ``times`` requests, or until ``heal``.

        ``pause``: seconds between two pieces of a slow answer.
        """
        self._of(repo).served.faults.begin(kind, times, pause)

    def heal(self, repo: Repo | str) -> None:
        """Answer new requests correctly again. A request that hangs goes on hanging."""
        self._of(repo).served.faults.heal()

    @property
    def requests(self) -> list[GitRequest]:
        """Return the requests of git clients, oldest first: the last 10,000."""
        return list(self._git.requests)

    def fetches(self, repo: Repo | str) -> int:
        """Return the number of requests for objects of a repository."""
        return sum(each.command == "fetch" and each.repo == _repo(repo).key for each in self._git.requests)

    def _hook(self) -> Hook:
        found = self.hooks.of(None, 0)
        if not found:
            raise RuntimeError("there is no webhook yet: call webhook(url, secret) first")
        return found[0]

    def _of(self, repo: Repo | str) -> HostedRepository:
        return self.repositories.of(repo)


def _repo(repo: Repo | str) -> Repo:
    return repo if isinstance(repo, Repo) else Repo.parse(repo)
