"""The webhook secrets of a forge, the verification of a body under each of them, and the scope of each.

A secret has one scope or several: texts that say for whose repositories it speaks. ``EVERYTHING`` is that of
``[webhook]``. Where one secret is configured under several scopes, by one file or by several with the same content, it
speaks for all of them: who knows it knows the secret of each. To refuse that would be of no use, since a file may
change at any time.
"""

from __future__ import annotations

import codecs
import hmac
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stackit.api.forge import Forge, Mac, secret_variable
from stackit.secrets.watched_file import WatchedFile

EVERYTHING = ""
"""The scope of a secret that speaks for every repository."""

_MANY = 32
"""Secrets above which a notice says what they cost."""

_SHORTEST = 16
"""Characters of a secret below which a notice recommends a longer one."""


class Verifier:
    """Check one body against a claimed signature, under each secret, while the body streams in.

    ``macs`` are the digests of no bytes, each with its secret. Without any the verifier is false.
    """

    __slots__ = ("_macs",)

    def __init__(self, macs: Sequence[tuple[WebhookSecret, Mac]]) -> None:
        self._macs = macs

    def __bool__(self) -> bool:
        return bool(self._macs)

    def update(self, chunk: bytes) -> None:
        """Add a piece of the body."""
        for _, mac in self._macs:
            mac.update(chunk)

    def matches(self, digest: bytes) -> list[WebhookSecret]:
        """Return the secrets under which the body has this digest.

        Each secret is compared, in constant time: the time of the answer tells nothing of which one matched.
        """
        return [secret for secret, mac in self._macs if hmac.compare_digest(mac.digest(), digest)]


class Secrets:
    """The webhook secrets of a forge that are valid now: one from the environment, and those of watched files.

    Each secret is trimmed. An empty one does not count, and without any a ``Secrets`` is false.

    A file is read again when it changes. An emptied file revokes its secret. While a file is missing or unreadable,
    its last secret stays valid, since a replacement in two steps looks the same.

    ``notice`` is given one line, without the secret, when a file was read again and when it cannot be read. The label
    of a secret is the path of its file, or the name of the environment variable. ``files`` and the environment speak
    for everything; ``scoped`` are further files, with the scopes of each. A file may be among both.
    """

    __slots__ = ("_files", "_fixed")

    def __init__(
        self,
        forge: Forge,
        fixed: Iterable[str],
        files: Iterable[Path],
        notice: Callable[[str], None],
        scoped: Mapping[Path, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        variable = secret_variable(forge.name)
        self._fixed = [secret for text in fixed if (secret := WebhookSecret(forge, variable, text.encode()))]
        scopes: dict[Path, tuple[str, ...]] = dict.fromkeys(files, (EVERYTHING,))
        for path, of_file in scoped.items():
            scopes[path] = (*of_file, *scopes.get(path, ()))
        self._files = [_SecretFile(forge, path, of_file, notice) for path, of_file in scopes.items()]

    def __bool__(self) -> bool:
        return bool(self._valid())

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._fixed)} fixed, {len(self._files)} in files>"

    def begin(self) -> Verifier:
        """Return the verifier of one body, under the secrets that are valid now."""
        return Verifier([(each, each.mac.copy()) for each in self._valid()])

    def still_valid(self, found: Sequence[WebhookSecret]) -> Sequence[WebhookSecret]:
        """Return those of these secrets that were valid at the last look, as they were then. No file is looked at."""
        if all(map(self._is_known, found)):
            return found
        known = [*self._fixed, *(file.last for file in self._files)]
        # A reload reads all files anew, and may give them other scopes.
        digests = [secret.mac.digest() for secret in found]
        return [each for each in known if each and any(hmac.compare_digest(each.mac.digest(), one) for one in digests)]

    def _is_known(self, secret: WebhookSecret) -> bool:
        for each in self._fixed:
            if each is secret:
                return True
        return any(file.last is secret for file in self._files)

    def known(self) -> dict[str, bool]:
        """Return the label of each secret that is configured: True where it is valid, False where its file is empty."""
        known = [*self._fixed, *(file.secret() for file in self._files)]
        return {each.label: bool(each) for each in known}

    def doubts(self) -> list[str]:
        """Return a line for each secret that is probably not what its owner meant. No line holds a secret."""
        known = [*self._fixed, *(file.secret() for file in self._files)]
        lines = [f"webhook secret {each.label}: it {each.oddities}" for each in known if each.oddities]
        same: dict[bytes, list[WebhookSecret]] = defaultdict(list)
        for each in known:
            if each:
                same[each.mac.digest()].append(each)
        for secrets in same.values():
            if len({each.scopes for each in secrets}) > 1:
                scopes = dict.fromkeys(scope for each in secrets for scope in each.scopes)
                whose = "everything" if EVERYTHING in scopes else " and ".join(scopes)
                labels = " and ".join(each.label for each in secrets)
                lines.append(f"webhook secrets {labels}: they are one secret, which therefore speaks for {whose}")
        if len(known) > _MANY:
            lines.append(
                f"there are {len(known)} webhook secrets, and every body is hashed with each of them: one file may "
                "serve several repositories, or their owner"
            )
        return lines

    def _valid(self) -> list[WebhookSecret]:
        if not self._files:
            return self._fixed
        return self._fixed + [secret for file in self._files if (secret := file.secret())]


class WebhookSecret:
    """A trimmed secret as a keyed digest, with its scopes, and its ``oddities`` in words. An empty one is false."""

    __slots__ = ("_empty", "label", "mac", "oddities", "scopes")

    def __init__(self, forge: Forge, label: str, content: bytes, scopes: tuple[str, ...] = (EVERYTHING,)) -> None:
        trimmed = content.strip()
        secret = trimmed.removeprefix(codecs.BOM_UTF8).strip()
        self.label = label
        self.scopes = scopes
        self.mac = forge.mac(secret)
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
        yield "looks like UTF-16, where a forge has UTF-8"
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
    """A file with one secret, which is read again when it changes."""

    __slots__ = ("_file", "_forge", "_notice", "_path", "_scopes", "_was_read", "last")

    def __init__(self, forge: Forge, path: Path, scopes: tuple[str, ...], notice: Callable[[str], None]) -> None:
        self._forge = forge
        self._path = path
        self._scopes = scopes
        self._notice = notice
        self.last = WebhookSecret(forge, str(path), b"", scopes)
        self._was_read = False
        self._file = WatchedFile(path, self._take, self._complain)
        self._file.look()

    def secret(self) -> WebhookSecret:
        """Return the secret that is valid now, which may be an empty one."""
        self._file.look()
        return self.last

    def _take(self, content: bytes) -> None:
        self.last = WebhookSecret(self._forge, str(self._path), content, self._scopes)
        if self._was_read:
            outcome = "its secret is valid from now on" if self.last else "it is empty, so its secret is taken back"
            odd = f"; it {self.last.oddities}" if self.last and self.last.oddities else ""
            self._notice(f"webhook secret file {self._path} was read again: {outcome}{odd}")
        self._was_read = True

    def _complain(self, reason: str) -> None:
        outcome = "its last secret stays valid" if self.last else "it gives no secret"
        self._notice(f"webhook secret file {self._path} cannot be read: {reason}; {outcome}")
