"""The pretend GitHub with its App, and the stackit beside it, which can be stopped and started again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from stackit.api.events import Repo
from stackit.api.reactor import Reactor, sleep
from stackit.config.load import load
from stackit.service import Stackit
from stackit.testing import PretendGitHub

OWNER = "octo"
BACKSTOP_INTERVAL = 10.0

_CONFIG = """
[[apps]]
name = "main"
app_id = {app_id}
private_key_file = "{directory}/app.pem"
secret_files = ["{directory}/webhook-secret"]
api_url = "{api_url}"

[[discover]]
app = "main"
include = ["{owner}/*"]

[sync]
interval = "{interval:.0f}s"

[plugins.logger]
enabled = false
"""  # the story tells what the logger would, for people

_PATIENCE = 60.0
_WEBHOOK = "/api/v1/webhooks/github"


class Stage:
    """Both of them, below one directory. ``plugins`` are those of stackit."""

    def __init__(self, reactor: Reactor, *, listen: str, admin_listen: str, plugins: dict[str, object]) -> None:
        self.github = PretendGitHub()
        self._reactor = reactor
        self._listen = listen
        self._admin_listen = admin_listen
        self._plugins = plugins
        self._running: Stackit | None = None

    @property
    def addresses(self) -> list[str]:
        """Where stackit listens: the public side first."""
        return [] if self._running is None else self._running.addresses

    @property
    def webhook(self) -> str:
        """The address of the webhook."""
        return f"{self.addresses[0]}{_WEBHOOK}"

    async def prepare(self, directory: Path, repos: list[str]) -> None:
        """Start the pretend GitHub with an App and these repositories, and then stackit."""
        self.directory = directory
        await self.github.start(self._reactor, directory / "github")
        for repo in repos:
            await self.github.create(f"{OWNER}/{repo}", private=True)
            await self.github.commit(f"{OWNER}/{repo}")
        self._app = self.github.apps.create("stackit", owner=OWNER)
        await self._app.install(OWNER)
        self._app.write_key(directory / "app.pem")
        secret = directory / "webhook-secret"
        secret.touch(mode=0o600)
        secret.write_text(self._app.webhook_secret)
        self.config_file = directory / "stackit.toml"
        self.config_file.write_text(
            _CONFIG.format(
                app_id=self._app.id,
                directory=directory,
                api_url=self.github.api_url,
                owner=OWNER,
                interval=BACKSTOP_INTERVAL,
            )
        )
        self._state_dir = directory / "state"
        self.start()
        await self.until(lambda: all(self.mirror(each).exists() for each in repos), "stackit found no repositories")

    def start(self) -> None:
        """Start stackit, at the ports that it had before, and tell the pretend GitHub where it is."""
        options = {
            "config": str(self.config_file),
            "listen": self._listen,
            "admin_listen": self._admin_listen,
            "state_dir": str(self._state_dir),
        }
        config = load(options, {}, cwd=self.config_file.parent)
        self._running = Stackit(config, self._reactor, plugins=self._plugins)
        self._running.startService()
        public, admin = self.addresses[0], self.addresses[-1]
        self._listen, self._admin_listen = _at(self._listen, public), _at(self._admin_listen, admin)
        self.github.hooks.of_app(self._app).config.url = self.webhook

    async def stop(self) -> None:
        """Stop stackit, if it runs."""
        running, self._running = self._running, None
        if running is not None:
            await running.stopService()

    async def clear(self) -> None:
        """Stop both."""
        try:
            await self.stop()
        finally:
            await self.github.stop()

    def mirror(self, repo: str) -> Path:
        """Return where the mirror of a repository is, or will be."""
        return self._state_dir / "mirrors" / f"{Repo(OWNER, repo).path}.git"

    async def until(self, holds: Callable[[], bool], what: str) -> float:
        """Wait until something holds, and return the seconds that it took. Raises TimeoutError that says ``what``."""
        began = self._reactor.seconds()
        while not holds():
            if self._reactor.seconds() - began > _PATIENCE:
                raise TimeoutError(f"{what} within {_PATIENCE:.0f} s")
            await sleep(self._reactor, 0.02)
        return self._reactor.seconds() - began


def _at(endpoint: str, address: str) -> str:
    """Return an endpoint of any port with the port of an address, that of what listens there."""
    return re.sub(r"^tcp:0(?=:|$)", f"tcp:{urlsplit(address).port}", endpoint)
