"""Webhooks at GitHub: each fault raises an alarm with the command that mends it, and a new secret loses no delivery."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, check_log, command, files, together
from twisted.internet.defer import Deferred

from stackit.testing import PretendGitHub, RunningStackit
from stackit.testing.github_api.hooks import Hook

REPO = "octo/widget"
PERMISSIONS = {"contents": "read", "metadata": "read", "repository_hooks": "write", "organization_hooks": "write"}


def any_line(text: str) -> Callable[[Sequence[str]], bool]:
    return lambda lines: any(text in line for line in lines)


class Watched:
    """A stackit with an App, which watches the webhooks of the App and of a repository."""

    def __init__(self, github: PretendGitHub, directory: Path) -> None:
        self.github = github
        self.directory = directory
        self.notebook = Notebook(directory / "notebook")
        self.server: RunningStackit
        self.config: dict[str, Any] = {}

    async def start(self, running_stackit: Any) -> None:
        github = self.github
        app = self.app = github.apps.create("main", owner="octo", permissions=PERMISSIONS)
        url = await github.create(REPO)
        await github.commit(REPO)
        await app.install("octo")
        for name, text in (("key.pem", app.private_key), ("secret", app.webhook_secret)):
            path = self.directory / name
            path.write_text(text)
            path.chmod(0o600)
        self.config = {
            "apps": [
                {
                    "name": "main",
                    "app_id": app.id,
                    "private_key_file": str(self.directory / "key.pem"),
                    "secret_files": [str(self.directory / "secret")],
                    "api_url": github.api_url,
                }
            ],
            "repos": [{"name": REPO, "url": url, "app": "main"}],
            "hooks": {"interval": "0.5s"},
            "sync": {"interval": "0.5s"},
            "plugins": {"notebook": self.notebook.table},
        }
        self.server = await running_stackit(config=self.config, environment=self.notebook.environment, secret=None)
        self.app_hook = github.hooks.of_app(app)
        self.app_hook.config.url = self.server.webhook_url
        self.app_hook.config.content_type = "json"
        self.config["public_url"] = self.server.url
        assert "public_url" in await self.server.reload(self.config)

    @property
    def hook(self) -> Hook:
        """The webhook of the repository."""
        (found,) = self.github.hooks.of("repository", self.github.repositories.of(REPO).id)
        return found

    async def do(self, *arguments: str, status: int = 0) -> str:
        """Give a command of the shell."""
        done = await command(self.server, "hook", *arguments)
        said = (done.stdout + done.stderr).decode()
        assert done.status == status, said
        return said

    async def alarms(self, change: Callable[[], object], faults: Sequence[str], mend: str) -> None:
        """Make faults, wait for an alarm of each, mend them by the command that the alarms name, wait for their end."""
        known = len(self.server.log)
        change()
        end = f"mend it: stackit {mend}"
        for fault in faults:
            await self.until(lambda log, it=fault: any(it in line and end in line for line in log), known, fault)  # type: ignore[misc]
        problems = (await self.server.admin("GET", "/readyz")).json()["problems"]
        assert all(any(fault in each for each in problems) for fault in faults), problems
        page = await self.server.admin("GET", "/github")
        assert (page.status, "What is wrong" in page.body.decode()) == (200, True), page.body
        _, action, hook = mend.split()
        answer = await self.server.admin("POST", f"{{prefix}}/hooks/{action}", hook=hook)
        assert answer.status == 200, answer.body
        for fault in faults:
            await self.until(
                lambda log, it=fault: any(it in line and "over: " in line for line in log),  # type: ignore[misc]
                known,
                f"the end of {fault}",
            )
        raised = [line for line in self.server.log[known:].splitlines() if end in line]
        assert len(raised) == len(faults), "each is raised once"

    async def until(self, found: Callable[[Sequence[str]], bool], since: int, what: str) -> None:
        """Wait until the lines of the log from a place on are as they should be."""

        async def there() -> bool:
            return found(self.server.log[since:].splitlines())

        await self.server.until(there, what)

    async def faults(self) -> dict[str, float]:
        samples = await self.server.metrics()
        prefix = 'stackit_github_hook_faults{fault="'
        found = {each.removeprefix(prefix)[:-2]: count for each, count in samples.items() if each.startswith(prefix)}
        return {fault: count for fault, count in found.items() if count}


@pytest_twisted.async_yield_fixture
async def watched(running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(pretend_github, tmp_path)
    await made.start(running_stackit)
    yield made
    check_log(made.server.log)


@pytest_twisted.ensureDeferred
async def test_a_webhook_is_made_and_every_fault_of_it_raises_an_alarm_that_names_what_mends_it(
    watched: Watched,
) -> None:
    said = await watched.do("create", REPO)
    hook, server = watched.hook, watched.server
    secret_file = server.state_dir / "webhook-secrets" / "repo+octo+widget"
    assert f"its secret is in {secret_file}" in said
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert (hook.config.url, hook.config.content_type, hook.config.insecure_ssl) == (server.webhook_url, "json", "0")
    assert set(hook.events or ()) == {"*"}, "the notebook wants all"
    assert hook.config.secret == secret_file.read_text().strip()
    assert "there, with the id" in await watched.do("create", REPO, status=1)
    await watched.do("ping", REPO)
    checked = await watched.do("check")
    assert "app:main" in checked
    assert "right" in checked
    assert await watched.faults() == {}

    def spoil() -> None:
        hook.config.url = "http://elsewhere.example.org/api/v1/webhooks/github"
        hook.config.content_type, hook.config.insecure_ssl = "form", "1"
        hook.active, hook.events = False, ["issues"]

    await watched.alarms(
        spoil,
        [
            "sends to http://elsewhere.example.org",
            "sends form, and not json",
            "does not check certificates",
            "is switched off",
            "does not tell of push",
        ],
        f"hook update {REPO}",
    )
    assert hook.config.secret == secret_file.read_text().strip(), "no change has taken the secret away"
    assert (hook.active, hook.config.url) == (True, server.webhook_url)
    await watched.alarms(lambda: watched.github.hooks.remove(hook), ["was deleted at GitHub"], f"hook create {REPO}")
    assert (await watched.github.hooks.send(watched.hook, "ping")).status == 204
    assert await watched.faults() == {}

    # A webhook that is silent: its deliveries never come, and the backstop finds the push.
    known = len(server.log)
    watched.hook.active = watched.app_hook.active = False
    await server.admin("POST", "{prefix}/hooks/check", hook=REPO)  # the alarm of that is raised already
    await watched.github.commit(REPO)
    await watched.until(any_line("is silent: the backstop found pushes in octo/widget"), known, "silence")
    watched.app_hook.active = True
    await watched.do("update", REPO)
    sent = await watched.github.push(REPO)
    assert sent.status == 202
    await watched.until(any_line("over: the webhook of octo/widget is silent"), known, "the end of silence")
    assert await watched.faults() == {}


@pytest_twisted.ensureDeferred
async def test_a_new_secret_loses_no_delivery(watched: Watched) -> None:
    assert (await watched.server.admin("POST", "{prefix}/hooks/create", hook=REPO)).status == 200
    server, github = watched.server, watched.github
    old = watched.hook.config.secret
    old_app = watched.app_hook.config.secret
    statuses: list[int | None] = []
    going = True

    async def traffic() -> None:
        while going:
            statuses.append((await github.hooks.send(watched.hook, "issues")).status)
            statuses.append((await github.hooks.send(watched.app_hook, "issues")).status)

    running = Deferred.fromCoroutine(traffic())
    of_repo, said = await together(
        watched.do("rotate", REPO, "--keep-old", "2s"), watched.do("rotate", "app:main", "--keep-old", "2s")
    )
    for each in (of_repo, said):
        assert "GitHub signs with the new secret" in each
    secret_file = server.state_dir / "webhook-secrets" / "repo+octo+widget"
    new = secret_file.read_text().strip()
    assert watched.hook.config.secret == new != old
    assert str(watched.directory / "secret") in said, (
        "the file of the configuration goes on to be valid until it is out"
    )
    going = False
    await running
    assert len(statuses) > 10
    assert set(statuses) <= {202, 204}
    assert old_app != watched.app_hook.config.secret
    # The old secret of the repository is of no use any more.
    for secret, status in ((old, 401), (new, 204)):
        watched.hook.config.secret = secret
        assert (await github.hooks.send(watched.hook, "ping")).status == status
    kept = {path: content for path, content in files(server.state_dir).items() if path.parent != secret_file.parent}
    told = server.log.encode() + said.encode() + b"".join(kept.values())
    for secret in (old, new, old_app, watched.app_hook.config.secret):
        assert str(secret).encode() not in told


@pytest_twisted.ensureDeferred
async def test_a_change_that_was_cut_off_is_taken_up_by_the_next_one(watched: Watched) -> None:
    assert (await watched.server.admin("POST", "{prefix}/hooks/create", hook=REPO)).status == 200
    server, github = watched.server, watched.github
    old = str(watched.hook.config.secret)
    for each in ("lost",) * 10:  # GitHub takes the new secret, and no ping comes
        watched.hook.spoil(each)
    asked = Deferred.fromCoroutine(server.admin("POST", "{prefix}/hooks/rotate", hook=REPO))
    asked.addErrback(lambda _: None)

    async def told_github() -> bool:
        return watched.hook.config.secret != old

    await server.until(told_github, "GitHub to have the new secret")
    await server.kill()
    await asked
    await server.start()
    new = str(watched.hook.config.secret)
    hook = watched.hook
    hook._mishaps.clear()
    for secret in (old, new):  # both are valid after the restart
        hook.config.secret = secret
        assert (await github.hooks.send(hook, "issues")).status == 202
    hook.config.secret = new
    said = await watched.do("rotate", REPO, "--keep-old", "0")
    assert "GitHub signs with the new secret" in said
    assert watched.hook.config.secret == new, "the one that was made first"
    hook.config.secret = old
    assert (await github.hooks.send(hook, "issues")).status == 401
