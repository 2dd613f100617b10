"""The exchange of a manifest's code for an App, and the files that its secrets go to."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from stackit.api.errors import StackitError
from stackit.github.api import ApiClient
from stackit.secrets import private_file

DIRECTORY = "apps"
"""The name of the directory in the state directory."""
PRIVATE_KEY, WEBHOOK_SECRET, CLIENT_SECRET = "private-key.pem", "webhook-secret", "client-secret"


class AppOwner(msgspec.Struct, frozen=True):
    """The owner of an App."""

    login: str


class NewApp(msgspec.Struct, frozen=True, kw_only=True):
    """GitHub's answer. It shows the key once, and never again."""

    id: int
    slug: str
    html_url: str
    owner: AppOwner
    pem: str
    client_secret: str
    client_id: str = ""
    webhook_secret: str | None = None

    def __repr__(self) -> str:
        return f"NewApp(id={self.id}, slug={self.slug!r})"


async def convert(client: ApiClient, code: str) -> NewApp:
    """Return the App that a code stands for. Raises ApiError."""
    return await client.send("POST", "/app-manifests/{code}/conversions", None, NewApp, code=code)


class AppFiles:
    """The directory with the files of an App that was set up: of mode 0700, with files of mode 0600."""

    def __init__(self, state_dir: Path, name: str) -> None:
        self.directory = state_dir / DIRECTORY / name

    @property
    def private_key(self) -> Path:
        return self.directory / PRIVATE_KEY

    @property
    def webhook_secret(self) -> Path:
        return self.directory / WEBHOOK_SECRET

    @property
    def client_secret(self) -> Path:
        return self.directory / CLIENT_SECRET

    def check(self) -> None:
        """Raise StackitError where the files of such an App are there, or the directory cannot be written to."""
        if self.directory.exists():
            raise StackitError(
                f"{self.directory} has the files of an App of that name: take another --name, or move them away"
            )
        try:
            self._make(self.directory)
            self.directory.rmdir()
        except OSError as problem:
            raise StackitError(f"{self.directory} cannot be made: {problem.strerror}") from None

    def write(self, app: NewApp) -> None:
        """Write the secrets. Raises StackitError; then nothing is left of them."""
        partly = self.directory.with_name(f".{self.directory.name}.new")
        contents = {PRIVATE_KEY: app.pem, CLIENT_SECRET: app.client_secret, WEBHOOK_SECRET: app.webhook_secret}
        try:
            shutil.rmtree(partly, ignore_errors=True)
            self._make(partly)
            for name, content in contents.items():
                if content:
                    private_file.write(partly / name, content if content.endswith("\n") else f"{content}\n")
            partly.rename(self.directory)
            private_file.sync(self.directory.parent)
        except OSError as problem:
            shutil.rmtree(partly, ignore_errors=True)
            raise StackitError(f"{self.directory}: {problem.strerror}") from None

    def _make(self, directory: Path) -> None:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
