"""The managed repositories, found by owner and name without regard to case."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from twisted.logger import Logger

from stackit.api.errors import StackitError, describe
from stackit.api.events import Repo
from stackit.secrets import watched_file

_log = Logger(namespace="stackit")

DEFAULT_REFSPECS = (
    "+refs/heads/*:refs/heads/*",
    "+refs/tags/*:refs/tags/*",
    "+refs/stackit/*:refs/stackit/*",
)


DEFAULT_USER = "x-access-token"
"""The user name that is sent with a token. GitHub accepts any."""

TokenScheme = Literal["basic", "bearer"]
"""The HTTP authentication scheme of a token: ``basic`` sends it as the password of a user, ``bearer`` by itself."""


AccessProblem = Literal["suspended", "no_access"]
"""Why an App has no access to a repository: its installation is suspended, or it has none or no right to read."""


class TokenSource(Protocol):
    """Tokens that are renewed while stackit runs, such as those of an installation of a GitHub App.

    Two repositories have the same tokens if they have the same source.
    """

    @property
    def problem(self) -> AccessProblem | None:
        """The state in which there is no token, until somebody changes it at the forge; None while there is none."""

    def current(self) -> str:
        """Return a token that is valid, without waiting. Raises StackitError that says why there is none."""

    async def ready(self) -> None:
        """Have a token that is valid for some minutes, before a use that takes time.

        Nothing is awaited while there is one. Raises StackitError that says why none can be had.
        """

    def rejected(self, token: str, status: int) -> bool:
        """Note that the forge answered 401, 403 or 404 to a token; return True if it is worth another try.

        ``ready`` comes before that try: it makes a new token, or gives a new one the time that the forge needs to know
        it everywhere.
        """


class ManagedRepo(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that stackit mirrors: its URL, its refspecs and its credentials.

    ``keep_forced``: where a push replaces history, the mirror keeps the old tip under ``refs/stackit-kept/``.
    ``token_file``, ``token_user`` and ``token_scheme`` are for HTTP; where there is a ``token_source``, the token is
    its. ``app`` is the name of the App whose tokens those are. ``ssh_key_file`` and ``known_hosts_file`` are for
    ssh (None: those of the user that runs stackit). The rest is for HTTPS: ``ca_file`` has the only authorities that
    are trusted (None: those of the machine), ``client_cert`` and ``client_key`` are stackit's own certificate.
    Certificates and keys are in PEM.
    """

    repo: Repo
    url: str
    refspecs: tuple[str, ...] = DEFAULT_REFSPECS
    token_file: Path | None = None
    token_user: str = DEFAULT_USER
    token_scheme: TokenScheme = "basic"  # noqa: S105 - no secret
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    keep_forced: bool = False
    app: str | None = None
    token_source: TokenSource | None = None

    def token(self) -> str | None:
        """Return the token for the remote, of its source or read from its file now; None where none is configured.

        Raises StackitError where the source has none, or the file cannot be read or does not hold one token.
        """
        if self.token_source is not None:
            return self.token_source.current()
        if self.token_file is None:
            return None
        try:
            token = watched_file.read(self.token_file).decode("utf-8-sig").strip()
        except (OSError, ValueError) as problem:
            reason = watched_file.reason(problem)
            raise StackitError(f"token file {self.token_file} cannot be read: {reason}") from None
        # It is sent in a header: nothing in it may end the line.
        if not token or not (token.isascii() and token.isprintable()) or " " in token:
            raise StackitError(f"token file {self.token_file} does not hold one token")
        return token

    def authorization(self) -> str | None:
        """Return the value of the header ``Authorization`` for the remote; None without a token.

        Raises StackitError as ``token`` does.
        """
        token = self.token()
        if token is None:
            return None
        if self.token_scheme == "bearer":  # noqa: S105 - as above
            return f"Bearer {token}"
        return f"Basic {b64encode(f'{self.token_user}:{token}'.encode()).decode('ascii')}"


class ReposChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the registry: repositories that are new, those that are managed no more, and those, as they are now,
    of which something else is said.
    """

    added: tuple[ManagedRepo, ...] = ()
    removed: tuple[ManagedRepo, ...] = ()
    changed: tuple[ManagedRepo, ...] = ()


class Repos:
    """The registry of managed repositories, which may change at run time: ``on_change`` tells when."""

    def __init__(self, managed: Iterable[ManagedRepo] = ()) -> None:
        self._managed = {each.repo.key: each for each in managed}
        self._listeners: list[Callable[[ReposChange], None]] = []

    def on_change(self, listener: Callable[[ReposChange], None]) -> None:
        """Have ``listener`` called after each change of the registry. It must not raise."""
        self._listeners.append(listener)

    def difference(self, managed: Iterable[ManagedRepo]) -> ReposChange:
        """Return how the registry would change if it had these repositories instead."""
        new = {each.repo.key: each for each in managed}
        return ReposChange(
            added=tuple(each for key, each in new.items() if key not in self._managed),
            removed=tuple(each for key, each in self._managed.items() if key not in new),
            changed=tuple(each for key, each in new.items() if key in self._managed and self._managed[key] != each),
        )

    def replace(self, managed: Iterable[ManagedRepo]) -> None:
        """Hold these repositories instead, and tell the listeners. Their exceptions are logged."""
        managed = tuple(managed)
        change = self.difference(managed)
        self._managed = {each.repo.key: each for each in managed}
        for listener in self._listeners:
            try:
                listener(change)
            except BaseException as fault:  # noqa: BLE001 - foreign code: the others have to hear of it, too
                _log.error("a listener to changes of repositories failed: {problem}", problem=describe(fault))

    def get(self, repo: Repo) -> ManagedRepo | None:
        """Return the managed repository of this name in any letter case, or None."""
        return self._managed.get(repo.key)

    def __iter__(self) -> Iterator[ManagedRepo]:
        return iter(self._managed.values())

    def __len__(self) -> int:
        return len(self._managed)
