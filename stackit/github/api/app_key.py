"""The private key of a GitHub App, and the credential that it signs: a JSON Web Token for each few minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor
from stackit.github.api.clock import GitHubClock
from stackit.secrets import watched_file

_log = Logger(namespace="stackit")

ISSUED_BEFORE = 60.0
"""Seconds by which a token is dated back: GitHub's clock may be behind."""
VALID_FOR = 540.0
"""Seconds from now for which a token is valid; GitHub takes ten minutes at most, by its own clock."""
USED_FOR = 300.0
"""Seconds for which a token is used."""
_SMALLEST = 2048
"""Bits of a key."""

FileVersion = tuple[int, int, int]


def load_key(path: Path) -> RSAPrivateKey:
    """Return the key in a file. Takes tens of milliseconds. Raises StackitError that says what is wrong with it."""
    try:
        key = load_pem_private_key(watched_file.read(path), password=None)
    except OSError as problem:
        raise StackitError(f"private key file {path} cannot be read: {watched_file.reason(problem)}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its text may have words of the file
        raise StackitError(
            f"private key file {path} holds no private key in PEM without a password; "
            "generate one in the settings of the App, and save the file that GitHub sends"
        ) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _SMALLEST:
        raise StackitError(f"private key file {path} holds no RSA key of at least {_SMALLEST} bits, which GitHub wants")
    return key


class AppKey:
    """The private key in a file, read when it is needed first and whenever the file changed, in a thread.

    While a changed file cannot be used, the key that was read before is; the log says so once.
    """

    def __init__(self, reactor: Reactor, path: Path) -> None:
        self.path = path
        self._reactor = reactor
        self._key: RSAPrivateKey | None = None
        self._version: FileVersion | None = None
        self._complained = False

    @property
    def version(self) -> FileVersion | None:
        """Return the version of the file as it is now; None where there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    async def current(self) -> RSAPrivateKey:
        """Return the key. Raises StackitError where there is none that can be used."""
        version = self.version
        if self._key is None or version != self._version:
            await self._load(version)
        assert self._key is not None  # noqa: S101 - for the type checker
        return self._key

    async def _load(self, version: FileVersion | None) -> None:
        try:
            self._key = await _in_thread(self._reactor, lambda: load_key(self.path))
            self._version = version
            self._complained = False
        except StackitError as problem:
            if self._key is None:
                raise
            if not self._complained:
                self._complained = True
                _log.error("{problem}; the key that was there before is used on", problem=str(problem))


class _Signed(msgspec.Struct, frozen=True):
    token: str
    made_at: float
    offset: float
    version: FileVersion | None


class JwtCredential:
    """The credential of an App itself. ``issuer`` is its id or its client id."""

    def __init__(self, key: str, issuer: str, app_key: AppKey, clock: GitHubClock) -> None:
        """``key`` is the name of the App for limits and metrics."""
        self.key = key
        self._issuer = issuer
        self._app_key = app_key
        self._clock = clock
        self._signed: _Signed | None = None

    async def authorization(self) -> str:
        """Return a signed token as a bearer token. Raises StackitError where the key cannot be read."""
        key = await self._app_key.current()
        now, signed = self._clock.now(), self._signed
        if (
            signed is None
            or not 0 <= now - signed.made_at < USED_FOR
            or signed.version != self._app_key.version
            or abs(signed.offset - self._clock.offset) > ISSUED_BEFORE / 2
        ):
            claims = {"iat": int(now - ISSUED_BEFORE), "exp": int(now + VALID_FOR), "iss": self._issuer}
            token = jwt.encode(claims, key, algorithm="RS256")
            signed = self._signed = _Signed(token, now, self._clock.offset, self._app_key.version)
        return f"Bearer {signed.token}"

    def rejected(self, authorization: str, status: int) -> bool:
        """Return True where a token would be another one by now: the clock was corrected, or the key replaced."""
        signed = self._signed
        if status != 401:
            return False
        if signed is None or authorization != f"Bearer {signed.token}":
            return True  # another request has found that out before
        self._signed = None
        moved = abs(signed.offset - self._clock.offset) > 1
        return moved or signed.version != self._app_key.version

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take no note: the client corrects the clock."""


async def _in_thread(reactor: Reactor, function: Callable[[], RSAPrivateKey]) -> RSAPrivateKey:
    """Return what a function returns in a thread of its own, which a stop does not wait for."""
    done: Deferred[RSAPrivateKey] = Deferred(lambda _: None)

    def run() -> None:
        outcome: RSAPrivateKey | Failure
        try:
            outcome = function()
        except BaseException:  # noqa: BLE001 - raised again where the result is awaited
            outcome = Failure()
        reactor.callFromThread(ended, outcome)

    def ended(outcome: RSAPrivateKey | Failure) -> None:
        if not done.called:
            done.callback(outcome)  # a Failure goes down the errbacks

    Thread(target=run, name="stackit app key", daemon=True).start()
    return await done
