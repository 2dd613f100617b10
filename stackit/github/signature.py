"""GitHub's signature of a delivery: an HMAC-SHA256 over the body exactly as delivered.

Source: GitHub's documentation, "Validating webhook deliveries".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from stackit.watched_file import WatchedFile

HEADER = b"x-hub-signature-256"

_SIGNATURE = re.compile(rb"sha256=([0-9a-f]{64})")


def parse(values: tuple[bytes, ...]) -> bytes | None:
    """The 64 hex digits of the one signature header; None where it is missing, repeated or malformed."""
    match = _SIGNATURE.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None


class Verifier:
    """The signatures that one body has under each secret, computed while the body streams in.

    Without any secret it is false.
    """

    __slots__ = ("_macs",)

    def __init__(self, macs: Sequence[hmac.HMAC]) -> None:
        self._macs = macs

    def __bool__(self) -> bool:
        return bool(self._macs)

    def update(self, chunk: bytes) -> None:
        for mac in self._macs:
            mac.update(chunk)

    def matches(self, digits: bytes) -> bool:
        """Whether ``digits`` (from ``parse``) is right under any of the secrets.

        Every secret is tried, so that the time says nothing about which one it was.
        """
        return any([hmac.compare_digest(mac.hexdigest().encode(), digits) for mac in self._macs])  # noqa: C419


class Secrets:
    """The webhook secrets that are valid now: fixed ones, and files that may be replaced at any time.

    Each is trimmed; empty ones are none, and with none at all a ``Secrets`` is false. A
    file is read again when it changes. Emptying it takes its secret back. While it is gone or
    unreadable its last secret stays valid, because that is what a replacement in two steps
    looks like. ``notice`` is told so once, and of each file that was read again, in a line that does not hold the
    secret.
    """

    __slots__ = (
        "_files",
        "_fixed",
    )

    def __init__(self, fixed: Iterable[str], files: Iterable[Path], notice: Callable[[str], None]) -> None:
        self._fixed = [_mac(text.strip().encode()) for text in fixed if text.strip()]
        self._files = [_SecretFile(path, notice) for path in files]

    def __bool__(self) -> bool:
        return bool(self._current())

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._fixed)} fixed, {len(self._files)} in files>"

    def begin(self) -> Verifier:
        """A verifier of one body, under the secrets as they are now."""
        return Verifier([mac.copy() for mac in self._current()])

    def _current(self) -> list[hmac.HMAC]:
        if not self._files:
            return self._fixed
        return self._fixed + [mac for file in self._files if (mac := file.mac()) is not None]


class _SecretFile:
    __slots__ = ("_file", "_mac", "_notice", "_path", "_was_read")

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._path = path
        self._notice = notice
        self._mac: hmac.HMAC | None = None
        self._was_read = False
        self._file = WatchedFile(path, self._take, self._complain)
        self._file.look()

    def mac(self) -> hmac.HMAC | None:
        self._file.look()
        return self._mac

    def _take(self, content: bytes) -> None:
        secret = content.strip()
        self._mac = _mac(secret) if secret else None
        if self._was_read:
            outcome = "its secret is valid from now on" if secret else "it is empty, so its secret is taken back"
            self._notice(f"webhook secret file {self._path} was read again: {outcome}")
        self._was_read = True

    def _complain(self, reason: str) -> None:
        outcome = "its last secret stays valid" if self._mac else "it gives no secret"
        self._notice(f"webhook secret file {self._path} cannot be read: {reason}; {outcome}")


def _mac(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod=hashlib.sha256)
