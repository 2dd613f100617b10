"""The webhook secrets that stackit made itself: one file for each scope in the state directory, of mode 0600.

The name of a file tells its scope, so that its secret is valid without a word in the configuration. While a secret is
being changed there are two: the one that is used, and the next.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from stackit.api.errors import StackitError
from stackit.config.scopes import ScopedSecret
from stackit.github.hooks.target import HookTarget
from stackit.secrets import private_file

DIRECTORY = "webhook-secrets"
"""The name of the directory in the state directory."""

_NEXT = "next"
_BYTES = 32
_NAME = re.compile(r"(app|owner)\+([^+/]+)(\+next)?|(repo)\+([^+/]+)\+([^+/]+)(\+next)?", re.ASCII)
# GitHub takes any App's name but these characters stand for themselves in no file's name.
_ODD = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


class SecretFiles:
    """The secrets of a state directory. All methods raise StackitError where the disk does not do as it should.

    Where they are ``shared``, other nodes of a fleet have the same.
    """

    def __init__(self, state_dir: Path, *, shared: bool = False) -> None:
        self.directory = state_dir / DIRECTORY
        self._shared = shared

    def current(self, target: HookTarget) -> Path:
        """Return the path of the secret of a scope, which may not be there."""
        return self.directory / _file_name(target)

    def next(self, target: HookTarget) -> Path:
        """Return the path of the secret that is to replace the one of a scope."""
        return self.directory / f"{_file_name(target)}+{_NEXT}"

    def scoped(self) -> tuple[ScopedSecret, ...]:
        """Return every secret with its scope. Files of other names are left out."""
        return tuple(ScopedSecret(each.scope, self.directory / name) for name, each, _ in _read(self._names()))

    def changing(self) -> list[HookTarget]:
        """Return the targets whose secret is being changed."""
        return [target for _, target, is_next in _read(self._names()) if is_next]

    def make(self, path: Path) -> str:
        """Return the secret in a file, and make it where there is none."""
        secret = secrets.token_hex(_BYTES)
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            private_file.write(path, f"{secret}\n")
        except FileExistsError:
            return self.read(path)
        except OSError as problem:
            raise _failed(path, problem) from None
        return secret

    def read(self, path: Path) -> str:
        """Return the secret in a file; "" where there is none."""
        try:
            return path.read_text("utf-8-sig").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as problem:
            raise _failed(path, problem) from None

    def home(self, target: HookTarget, configured: Iterable[ScopedSecret]) -> Path:
        """Return where the secret of a scope stays: a file of the configuration that is in the state directory, too.

        Any other file of the configuration is not for stackit to change, and none where other nodes have their own.
        """
        current = self.current(target)
        if self._shared:
            return current
        own = {each.file for each in configured if each.scope.lower() == target.key}
        inside = [each for each in own if each.is_relative_to(self.directory.parent)]
        return inside[0] if len(inside) == 1 and not current.exists() else current

    def replace(self, target: HookTarget, home: Path) -> None:
        """Have the next secret of a scope take the place of the one that is in ``home``."""
        try:
            self.next(target).replace(home)
            private_file.sync(home.parent)
            private_file.sync(self.directory)
        except OSError as problem:
            raise _failed(self.next(target), problem) from None

    def remove(self, target: HookTarget) -> None:
        """Remove the secrets of a scope."""
        try:
            for path in (self.next(target), self.current(target)):
                path.unlink(missing_ok=True)
            if self.directory.exists():
                private_file.sync(self.directory)
        except OSError as problem:
            raise _failed(self.current(target), problem) from None

    def contents(self) -> dict[str, str]:
        """Return the secrets by the names of their files."""
        return {name: self.read(self.directory / name) for name, _, _ in _read(self._names())}

    def put(self, name: str, secret: str) -> bool:
        """Have a file of this name hold a secret, or be gone where that is ""; return whether that is new."""
        path = self.directory / name
        if not any(True for _ in _read([name])) or self.read(path) == secret:
            return False
        beside = self.directory / f".{name}.new"
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            if secret:
                beside.unlink(missing_ok=True)
                private_file.write(beside, f"{secret}\n")
                beside.replace(path)
            else:
                path.unlink(missing_ok=True)
            private_file.sync(self.directory)
        except OSError as problem:
            raise _failed(path, problem) from None
        return True

    def _names(self) -> list[str]:
        try:
            return sorted(each.name for each in self.directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise _failed(self.directory, problem) from None


def _file_name(target: HookTarget) -> str:
    if _ODD.search(target.name.replace("/", "")):
        raise StackitError(f"{target.text}: a name with other characters than letters, digits, . _ and - has no file")
    return target.key.replace(":", "+").replace("/", "+")


def _read(names: Iterable[str]) -> Iterator[tuple[str, HookTarget, bool]]:
    """Yield each name of a file with its target, and whether it is that of a next secret."""
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None:
            scope = f"repo:{match[5]}/{match[6]}" if match[4] else f"{match[1]}:{match[2]}"
            with suppress(ValueError):  # a file of somebody else's
                yield name, HookTarget.parse(scope), bool(match[3] or match[7])


def _failed(path: Path, problem: Exception) -> StackitError:
    return StackitError(f"{path}: {getattr(problem, 'strerror', None) or 'it is not UTF-8 text'}")
