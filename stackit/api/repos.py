"""The managed repositories, found by owner and name without regard to case."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec
from twisted.logger import Logger

from stackit.api.errors import describe
from stackit.api.events import Event, Repo
from stackit.api.token_file import read_token

_log = Logger(namespace="stackit")

Told = TypeVar("Told")

DEFAULT_REFSPECS = (
    "+refs/heads/*:refs/heads/*",
    "+refs/tags/*:refs/tags/*",
    "+refs/stackit/*:refs/stackit/*",
)


DEFAULT_USER = "x-access-token"
"""The user name that is sent with a token. GitHub accepts any."""

RepoSource = Literal["file", "people", "discover"]
"""What has a repository mirrored: the configuration file, a person at run time, or a rule of ``[[discover]]``."""

REALM = "github"
"""The realm of ids of github.com."""

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

    def accepted(self, token: str) -> None:
        """Note that the forge took a token: a refusal of it is no delay until it is known everywhere."""

    async def rejected(self, token: str, status: int) -> bool:
        """Wait until another try makes sense, after an answer 401, 403 or 404 to this token, and return True.

        It may be new, and not known everywhere yet; or there is a newer one by now. Returns False where the answer is
        about the repository, and raises StackitError where nobody gets a token any more.
        """


class ManagedRepo(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that stackit mirrors: its URL, its refspecs and its credentials.

    ``id`` is the forge's own id of it, which stays when the name changes; None where it is not known. Ids are unique
    within a ``realm``. ``former`` are the keys (``Repo.key``) of names that it had before and nobody else has now.
    ``source`` tells what has it mirrored, ``added_by`` which person or rule ("" for the configuration).
    ``keep_forced``: where a push replaces history, the mirror keeps the old tip under ``refs/stackit-kept/``.
    ``token_file``, ``token_user`` and ``token_scheme`` are for HTTP; where there is a ``token_source``, the token is
    its. ``app`` is the name of the App whose tokens those are. ``ssh_key_file`` and ``known_hosts_file`` are for
    ssh (None: those of the user that runs stackit). The rest is for HTTPS: ``ca_file`` has the only authorities that
    are trusted (None: those of the machine), ``client_cert`` and ``client_key`` are stackit's own certificate.
    Certificates and keys are in PEM.
    """

    repo: Repo
    url: str
    id: int | None = None
    realm: str = REALM
    source: RepoSource = "file"
    added_by: str = ""
    former: tuple[str, ...] = ()
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

    @property
    def identity(self) -> str | None:
        """The realm and the id as one text, such as ``github:1296269``; None where no id is known."""
        return None if self.id is None else identity(self.realm, self.id)

    def token(self) -> str | None:
        """Return the token for the remote, of its source or read from its file now; None where none is configured.

        Raises StackitError where the source has none, or the file cannot be read or does not hold one token.
        """
        if self.token_source is not None:
            return self.token_source.current()
        if self.token_file is None:
            return None
        return read_token(self.token_file)

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


def identity(realm: str, number: int) -> str:
    """Return the text that stands for the repository of this id."""
    return f"{realm}:{number}"


class ReposChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the registry: repositories that are new, those that are managed no more, and those, as they are now,
    of which something else is said.

    ``moved`` are those with another name, as they were and as they are; two may swap names. ``purged`` are managed no
    more, and what is kept of them is to be deleted.
    """

    added: tuple[ManagedRepo, ...] = ()
    removed: tuple[ManagedRepo, ...] = ()
    changed: tuple[ManagedRepo, ...] = ()
    moved: tuple[tuple[ManagedRepo, ManagedRepo], ...] = ()
    purged: tuple[ManagedRepo, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.moved or self.purged)


class Repos:
    """The registry of managed repositories, which may change at run time: ``on_change`` tells when."""

    def __init__(self, managed: Iterable[ManagedRepo] = ()) -> None:
        self._managed: dict[str, ManagedRepo] = {}
        self._by_identity: dict[str, ManagedRepo] = {}
        self._confirmed: dict[str, float] = {}
        self._former: dict[str, str] = {}  # keys of former names, and the present ones
        self._listeners: list[Callable[[ReposChange], None]] = []
        self._on_access: list[Callable[[TokenSource], None]] = []
        for each in managed:
            self._put(each)

    def on_change(self, listener: Callable[[ReposChange], None]) -> None:
        """Have ``listener`` called after each change of the registry. It must not raise."""
        self._listeners.append(listener)

    def on_access(self, listener: Callable[[TokenSource], None]) -> None:
        """Have ``listener`` called with each source that gives tokens again. It must not raise."""
        self._on_access.append(listener)

    def access_returned(self, source: TokenSource) -> None:
        """Tell the listeners that a source gives tokens again. Their exceptions are logged."""
        _tell(self._on_access, source)

    def difference(self, managed: Iterable[ManagedRepo]) -> ReposChange:
        """Return how the registry would change if it had these repositories instead."""
        return difference(self._managed, {each.repo.key: each for each in managed})

    def replace(self, managed: Iterable[ManagedRepo]) -> None:
        """Hold these repositories instead, and tell the listeners. Their exceptions are logged."""
        managed = tuple(managed)
        change = self.difference(managed)
        self._take(change)
        self._managed = {each.repo.key: each for each in managed}  # in their order
        # Also those that were made anew and are equal, which are no change: a removal forgets the very object.
        self._by_identity = {each.identity: each for each in managed if each.identity is not None}
        if change:
            self._tell(change)

    def apply(self, change: ReposChange) -> None:
        """Follow a change, and tell the listeners. Their exceptions are logged."""
        self._take(change)
        self._tell(change)

    def _take(self, change: ReposChange) -> None:
        for gone in (*change.removed, *(old for old, _ in change.moved)):
            self._drop(gone.repo.key)
        for each in change.changed:
            self._drop(each.repo.key)
        for each in (*change.added, *change.changed, *(new for _, new in change.moved)):
            self._put(each)

    def _tell(self, change: ReposChange) -> None:
        _tell(self._listeners, change)

    def get(self, repo: Repo) -> ManagedRepo | None:
        """Return the managed repository of this name in any letter case, or None.

        A former name finds the repository that had it, unless another one has that name now.
        """
        key = repo.key
        return self._managed.get(key) or self._managed.get(self._former.get(key, ""))

    def by_id(self, number: int, realm: str = REALM) -> ManagedRepo | None:
        """Return the managed repository of this id, or None."""
        return self._by_identity.get(identity(realm, number))

    def of(self, event: Event) -> ManagedRepo | None:
        """Return the managed repository that an event tells of, or None.

        The id counts more than the name: this may have been another repository's, or be one's by now.
        """
        managed = None if event.repo is None else self.get(event.repo)
        if managed is None or managed.id is None or event.repo_id in (None, managed.id):
            return managed
        return self.by_id(event.repo_id or 0, managed.realm)

    def confirm(self, identity: str, at: float) -> None:
        """Note that the forge showed a repository under the name that it has here, by the reactor's clock."""
        self._confirmed[identity] = at

    def confirmed_at(self, identity: str) -> float | None:
        """Return when ``confirm`` was last called for a repository, None if it never was."""
        return self._confirmed.get(identity)

    def __iter__(self) -> Iterator[ManagedRepo]:
        return iter(self._managed.values())

    def __len__(self) -> int:
        return len(self._managed)

    def _put(self, managed: ManagedRepo) -> None:
        key = managed.repo.key
        self._managed[key] = managed
        if managed.identity is not None:
            self._by_identity[managed.identity] = managed
        self._former.update(dict.fromkeys(managed.former, key))

    def _drop(self, key: str) -> None:
        managed = self._managed.pop(key, None)
        if managed is None:
            return
        if managed.identity is not None and self._by_identity.get(managed.identity) is managed:
            del self._by_identity[managed.identity]
            self._confirmed.pop(managed.identity, None)
        for name in managed.former:
            if self._former.get(name) == key:
                del self._former[name]


def difference(old: Mapping[str, ManagedRepo], new: Mapping[str, ManagedRepo]) -> ReposChange:
    """Return the change from some repositories to others, both by ``Repo.key``.

    One with the same id and another name has moved.
    """
    before = {each.identity: each for each in old.values() if each.identity is not None}
    moved = [
        (known, each)
        for each in new.values()
        if each.identity is not None and (known := before.get(each.identity)) is not None and known.repo != each.repo
    ]
    left, taken = {known.repo.key for known, _ in moved}, {each.repo.key for _, each in moved}
    return ReposChange(
        added=tuple(each for key, each in new.items() if key not in taken and (key not in old or key in left)),
        removed=tuple(each for key, each in old.items() if key not in left and (key not in new or key in taken)),
        changed=tuple(
            each
            for key, each in new.items()
            if key in old and key not in taken and key not in left and old[key] != each
        ),
        moved=tuple(moved),
    )


def _tell(listeners: Iterable[Callable[[Told], None]], news: Told) -> None:
    for listener in listeners:
        try:
            listener(news)
        except BaseException as fault:  # noqa: BLE001 - foreign code: the others have to hear of it, too
            _log.error("a listener to changes of repositories failed: {problem}", problem=describe(fault))
