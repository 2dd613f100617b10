"""GitHub's signature of a delivery: an HMAC-SHA256 over the body exactly as delivered.

Source: GitHub's documentation, "Validating webhook deliveries".
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stackit.secrets.watched_file import WatchedFile

HEADER = b"x-hub-signature-256"

VARIABLE = "STACKIT_GITHUB_WEBHOOK_SECRET"
"""The variable of the environment that may hold a secret."""

_SIGNATURE = re.compile(rb"sha256=([0-9a-f]{64})")
_SHORTEST = 16
"""Characters below which a secret is worth a notice."""


def parse(values: tuple[bytes, ...]) -> bytes | None:
    """The 64 hex digits of the one signature header; None where it is missing, repeated or malformed."""
    match = _SIGNATURE.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None


class Verifier:
    """The signatures that one body has under each secret, computed while the body streams in.

    ``macs`` have the labels of their secrets. Without any secret it is false.
    """

    __slots__ = ("_macs",)

    def __init__(self, macs: Sequence[tuple[str, hmac.HMAC]]) -> None:
        self._macs = macs

    def __bool__(self) -> bool:
        return bool(self._macs)

    def update(self, chunk: bytes) -> None:
        for _, mac in self._macs:
            mac.update(chunk)

    def matches(self, digits: bytes) -> str | None:
        """The label of the first secret under which ``digits`` (from ``parse``) is right; None where under none.

        Every secret is tried, so that the time says nothing about which one it was.
        """
        right = [label for label, mac in self._macs if hmac.compare_digest(mac.hexdigest().encode(), digits)]
        return right[0] if right else None


class Secrets:
    """The webhook secrets that are valid now: that of the environment, and files that may be replaced at any time.

    Each is trimmed; empty ones are none, and with none at all a ``Secrets`` is false. A
    file is read again when it changes. Emptying it takes its secret back. While it is gone or
    unreadable its last secret stays valid, because that is what a replacement in two steps
    looks like. ``notice`` is told so once, and of each file that was read again, in a line that does not hold the
    secret. The label of a secret is its file, or the variable ``VARIABLE``.
    """

    __slots__ = (
        "_files",
        "_fixed",
    )

    def __init__(self, fixed: Iterable[str], files: Iterable[Path], notice: Callable[[str], None]) -> None:
        self._fixed = [secret for text in fixed if (secret := _Secret(VARIABLE, text.encode()))]
        self._files = [_SecretFile(path, notice) for path in files]

    def __bool__(self) -> bool:
        return bool(self._current())

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._fixed)} fixed, {len(self._files)} in files>"

    def begin(self) -> Verifier:
        """A verifier of one body, under the secrets as they are now."""
        return Verifier([(each.label, each.mac.copy()) for each in self._current()])

    def doubts(self) -> list[str]:
        """What is odd about the secrets as they are now, a line for each that is odd; nothing of the secrets."""
        known = [*self._fixed, *(file.secret() for file in self._files)]
        return [f"webhook secret {each.label}: it {each.oddities}" for each in known if each.oddities]

    def _current(self) -> list[_Secret]:
        if not self._files:
            return self._fixed
        return self._fixed + [secret for file in self._files if (secret := file.secret())]


class _Secret:
    """A secret, trimmed, and what is odd about it, in words. One that is empty is false."""

    __slots__ = ("_empty", "label", "mac", "oddities")

    def __init__(self, label: str, content: bytes) -> None:
        trimmed = content.strip()
        secret = trimmed.removeprefix(codecs.BOM_UTF8).strip()
        self.label = label
        self.mac = hmac.new(secret, digestmod=hashlib.sha256)
        self.oddities = " and ".join(_oddities(trimmed, secret))
        self._empty = not secret

    def __bool__(self) -> bool:
        return not self._empty


def _oddities(content: bytes, secret: bytes) -> Iterator[str]:
    if not secret:
        yield "is empty, so there is none"
        return
    if content.startswith(codecs.BOM_UTF8):
        yield "begins with a byte order mark, which is left out"
    if b"\0" in secret:
        yield "looks like UTF-16, where GitHub has UTF-8"
    elif len(secret.splitlines()) > 1:
        yield "has several lines, which are one secret"
    elif len(secret.split()) > 1:
        yield "has blanks inside"
    elif not all(byte > 0x20 and byte != 0x7F for byte in secret):
        yield "has control characters inside"
    if len(secret) > 1 and secret[:1] == secret[-1:] and secret[:1] in (b"'", b'"'):
        yield "stands in quotes, which are part of it"
    if len(secret.decode("utf-8", "replace")) < _SHORTEST:
        yield f"is shorter than {_SHORTEST} characters"


class _SecretFile:
    __slots__ = ("_file", "_notice", "_path", "_secret", "_was_read")

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._path = path
        self._notice = notice
        self._secret = _Secret(str(path), b"")
        self._was_read = False
        self._file = WatchedFile(path, self._take, self._complain)
        self._file.look()

    def secret(self) -> _Secret:
        self._file.look()
        return self._secret

    def _take(self, content: bytes) -> None:
        self._secret = _Secret(str(self._path), content)
        if self._was_read:
            outcome = "its secret is valid from now on" if self._secret else "it is empty, so its secret is taken back"
            odd = f"; it {self._secret.oddities}" if self._secret and self._secret.oddities else ""
            self._notice(f"webhook secret file {self._path} was read again: {outcome}{odd}")
        self._was_read = True

    def _complain(self, reason: str) -> None:
        outcome = "its last secret stays valid" if self._secret else "it gives no secret"
        self._notice(f"webhook secret file {self._path} cannot be read: {reason}; {outcome}")
