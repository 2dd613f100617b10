"""Removal of the secrets that stackit itself uses from texts of foreign origin, in any encoding.

A remote that repeats what it was sent, an exception that quotes a header, a redirect that carries a token in its
address: each may write a secret plain, percent-encoded, escaped as in JSON or HTML, in hexadecimal, or in base64,
where it looks different for each place at which it may begin.
"""

from __future__ import annotations

import re
from base64 import b64encode
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote_plus, unquote

from stackit.secrets.watched_file import WatchedFile
from stackit.text.redaction import LONGEST, redacted

SHORTEST = 8
"""Characters of a secret that is looked for: a shorter one would be found in words that are none."""

Redact = Callable[[str], str]
"""A function that returns a text without the credentials in it."""

_LOOK_EVERY = 1.0
"""Seconds between two looks at the files."""
_MOST = 8 * LONGEST
"""Characters of a text that are looked at: of what is left, it is cut to an eighth."""
_MOST_ADDED = 32
"""Secrets that were made while stackit runs, and are remembered: each costs a search of every text."""
_KEPT = 3
"""Secrets of one file that are remembered: what was replaced a moment ago may still be under way."""

_BASE64_CHARACTER = "[A-Za-z0-9+/_-]"
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_BACKSLASH = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([\"'\\/]))")
_HTML = re.compile(rb"&(?:#x([0-9A-Fa-f]{1,4})|#(\d{1,5})|(amp|lt|gt|quot|apos));")
_OF_HTML = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}

Meaning = Callable[[re.Match[bytes]], bytes]
"""The bytes that an escape stands for."""


class Redactor:
    """Called with a text, returns it of bounded length, without the secrets in use and what looks like a credential.

    ``fixed`` are secrets as they are; ``files`` hold one each, and are read again when they change, for which
    ``seconds`` is the clock.
    """

    def __init__(
        self, fixed: Iterable[str] = (), files: Iterable[Path] = (), seconds: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._fixed = tuple(fixed)
        self._added: deque[str] = deque(maxlen=_MOST_ADDED)
        self._files = [_File(path) for path in dict.fromkeys(files)]
        self._seconds = seconds
        self._looked_at: float | None = None
        self._known: Mapping[str, _Forms] = MappingProxyType({})

    def add(self, secret: str) -> None:
        """Look for a secret that was just made, too. The latest of them are remembered.

        Of tokens that are older, what looks like a token is removed all the same.
        """
        self._added.append(secret)
        self._looked_at = None

    def add_files(self, files: Iterable[Path]) -> None:
        """Look for the secrets of these files, too. What was a secret once is not forgotten: it may be under way."""
        known = {file.path for file in self._files}
        self._files += [_File(path) for path in dict.fromkeys(files) if path not in known]
        self._looked_at = None

    def refresh(self, path: Path) -> None:
        """Look at one of the files now: its secret is about to be used, and may be new."""
        for file in self._files:
            if file.path == path and file.has_changed():
                self._looked_at = None

    def __call__(self, text: str) -> str:
        self._look()
        text = text[:_MOST]
        for forms in self._known.values():
            text = forms.removed_from(text)
        for sign, escape, meant in _ESCAPES:
            if sign in text and (plain := _Unescaped.of(text, escape, meant)) is not None:
                text = plain.without(self._known.values())
        return redacted(text)

    def _look(self) -> None:
        now = self._seconds()
        if self._looked_at is not None and (not self._files or 0 <= now - self._looked_at < _LOOK_EVERY):
            return
        self._looked_at = now
        found = [*self._fixed, *self._added, *(secret for file in self._files for secret in file.secrets())]
        # What has another inside comes first, or would be left in part.
        secrets = sorted({secret for secret in found if len(secret) >= SHORTEST}, key=len, reverse=True)
        if secrets != list(self._known):
            self._known = {secret: self._known.get(secret) or _Forms(secret) for secret in secrets}


class _Forms:
    """One secret in all the forms in which a text may have it."""

    def __init__(self, secret: str) -> None:
        raw = secret.encode("utf-8", "surrogateescape")
        digits = raw.hex()
        self._literal = tuple(dict.fromkeys([secret, quote_plus(secret, errors="replace"), digits, digits.upper()]))
        self._base64 = tuple(dict.fromkeys(_in_base64(raw)))
        self.signs = tuple(each.encode("utf-8", "surrogateescape") for each in (*self._literal, *self._base64))

    def removed_from(self, text: str) -> str:
        for sign in self._base64:
            if sign in text:
                # The characters around it hold the rest of its bits. A run of them is tried once, from its beginning:
                # from each of its characters, a long one would take minutes.
                run = f"{_BASE64_CHARACTER}*"
                text = re.sub(f"(?<!{_BASE64_CHARACTER}){run}{re.escape(sign)}{run}=*", "***", text)
        for sign in self._literal:
            if sign in text:
                text = text.replace(sign, "***")
        return text


def _in_base64(secret: bytes) -> Iterable[str]:
    """Yield the base64 characters that depend on the secret alone, for each offset and both alphabets."""
    for before in range(3):
        encoded = b64encode(bytes(before) + secret).decode("ascii")
        own = encoded[-(-8 * before // 6) : 8 * (before + len(secret)) // 6]
        yield own
        yield own.replace("+", "-").replace("/", "_")


class _Unescaped:
    """A text with its escapes undone, and a map from its bytes to those of the original."""

    def __init__(self, text: bytes, escapes: Iterable[re.Match[bytes]], meant: Meaning) -> None:
        self._text = text
        pieces: list[bytes] = []
        self._plain_at: list[int] = []
        self._text_at: list[tuple[int, int]] = []  # where a piece begins, and how long it is if it was an escape
        end = size = 0
        for match in escapes:
            for piece, start, width in (
                (text[end : match.start()], end, 0),
                (meant(match), match.start(), match.end() - match.start()),
            ):
                if piece:
                    pieces.append(piece)
                    self._plain_at.append(size)
                    self._text_at.append((start, width))
                    size += len(piece)
            end = match.end()
        self._plain_at.append(size)
        self._text_at.append((end, 0))
        self._plain = b"".join([*pieces, text[end:]])

    @classmethod
    def of(cls, text: str, escape: re.Pattern[bytes], meant: Meaning) -> _Unescaped | None:
        """Return the unescaped text; None if nothing is escaped."""
        raw = text.encode("utf-8", "surrogatepass")
        return cls(raw, escape.finditer(raw), meant) if escape.search(raw) else None

    def without(self, secrets: Iterable[_Forms]) -> str:
        spans = sorted(
            # A secret in a file need not be UTF-8: it may begin or end within a character, which goes as a whole.
            (self._boundary(self._place(at, 0), -1), self._boundary(self._place(at + len(sign) - 1, 1), 1))
            for forms in secrets
            for sign in forms.signs
            for at in _places(self._plain, sign)
        )
        pieces: list[bytes] = []
        done = 0
        for start, end in spans:
            if start >= done:
                pieces += [self._text[done:start], b"***"]
            done = max(done, end)
        return b"".join([*pieces, self._text[done:]]).decode("utf-8", "surrogatepass")

    def _place(self, plain: int, after: int) -> int:
        """Return the position in the text of the byte at ``plain``, or of the byte ``after`` it."""
        piece = bisect_right(self._plain_at, plain) - 1
        start, width = self._text_at[piece]
        return start + width * after if width else start + plain - self._plain_at[piece] + after

    def _boundary(self, at: int, step: int) -> int:
        """Return the position in the text, from ``at`` on in steps of 1 or -1, at which a character begins."""
        while b"\x80" <= self._text[at : at + 1] <= b"\xbf":
            at += step
        return at


def _percent(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16)])


def _backslash(escape: re.Match[bytes]) -> bytes:
    byte, number, itself = escape.groups()
    if number:
        return _character(int(number, 16))
    return bytes([int(byte, 16)]) if byte else bytes(itself)


def _html(escape: re.Match[bytes]) -> bytes:
    hexadecimal, decimal, name = escape.groups()
    if name:
        return _OF_HTML[name]
    return _character(int(decimal) if decimal else int(hexadecimal, 16))


def _character(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


# Each kind by itself: a secret may have in it what is an escape of another kind.
_ESCAPES = (("%", _PERCENT, _percent), ("\\", _BACKSLASH, _backslash), ("&", _HTML, _html))


def _places(text: bytes, sign: bytes) -> Iterable[int]:
    at = text.find(sign)
    while at >= 0:
        yield at
        at = text.find(sign, at + 1)


class _File:
    """A file with one secret, and those that it had before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._secrets: tuple[str, ...] = ()
        # Those who need the secret report a file that cannot be read.
        self._file = WatchedFile(path, self._take, lambda _: None)

    def has_changed(self) -> bool:
        """Look at the file; return True if its secret is another than at the last look."""
        before = self._secrets
        return self.secrets() is not before

    def secrets(self) -> tuple[str, ...]:
        self._file.look()
        return self._secrets

    def _take(self, content: bytes) -> None:
        secret = content.decode("utf-8", "surrogateescape").strip("\ufeff \t\r\n\v\f")
        if secret and secret not in self._secrets:
            self._secrets = (secret, *self._secrets)[:_KEPT]


def proxy_passwords(environ: Mapping[str, str]) -> Iterable[str]:
    """Yield the passwords in the URLs of proxies."""
    for name, address in environ.items():
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            # A scheme may be missing, and what is no address is the concern of who uses it.
            userinfo = address.partition("://")[2].partition("/")[0] or address.partition("/")[0]
            user, at, _ = userinfo.rpartition("@")
            if at and (password := user.partition(":")[2]):
                yield unquote(password)
