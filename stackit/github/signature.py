"""GitHub's signature of a delivery: an HMAC-SHA256 over the body exactly as delivered.

Source: GitHub's documentation, "Validating webhook deliveries".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

HEADER = b"x-hub-signature-256"

_SIGNATURE = re.compile(rb"sha256=([0-9a-f]{64})")
_LARGEST_FILE = 64 * 2**10


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
    looks like; ``notice`` is told so once, in a line that does not hold the secret.
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
    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._path = path
        self._notice = notice
        self._version: tuple[int, int, int] | None = None
        self._mac: hmac.HMAC | None = None
        self._complained = False

    def mac(self) -> hmac.HMAC | None:
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_size, status.st_mtime_ns)
            if version != self._version:
                self._read()
                self._version = version
            self._complained = False
        except (OSError, ValueError) as problem:
            if not self._complained:
                self._complained = True
                reason = getattr(problem, "strerror", None) or str(problem)
                outcome = "its last secret stays valid" if self._mac else "it gives no secret"
                self._notice(f"webhook secret file {self._path} cannot be read: {reason}; {outcome}")
        return self._mac

    def _read(self) -> None:
        with self._path.open("rb") as file:
            text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise ValueError("it is larger than 64 KiB")
        self._mac = _mac(text.strip()) if text.strip() else None


def _mac(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod=hashlib.sha256)
