"""The file with the tokens of logins: one for each admin side, which the other commands use from then on."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stackit.api.errors import StackitError
from stackit.secrets import private_file

_NAME = "logins.json"


class KeptLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A token, and for people whose it is."""

    token: str
    name: str = ""

    def __repr__(self) -> str:
        return f"KeptLogin(name={self.name!r})"


class LoginFile:
    """The file: of mode 0600, in a directory of mode 0700, under ``XDG_STATE_HOME`` (``~/.local/state``)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
        # A relative one counts as unset, as the specification has it.
        base = Path(state) if state.startswith("/") else Path(home, ".local/state") if home.startswith("/") else None
        self.path = None if base is None else base / "stackit" / _NAME

    def get(self, url: str) -> KeptLogin | None:
        """Return the login at an admin side; None without one. Raises StackitError."""
        return self._read().get(url)

    def put(self, url: str, login: KeptLogin | None) -> None:
        """Keep a login at an admin side, None for none. Raises StackitError."""
        if self.path is None:
            raise StackitError("there is no place to keep a login: set HOME, or XDG_STATE_HOME")
        logins = {each: kept for each, kept in self._read().items() if each != url}
        if login is not None:
            logins[url] = login
        new = self.path.with_name(f".{_NAME}.{secrets.token_hex(8)}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            private_file.write(new, msgspec.json.encode(logins).decode())
            new.replace(self.path)
        except OSError as problem:
            new.unlink(missing_ok=True)
            raise StackitError(f"{self.path}: cannot be written: {problem.strerror}") from None

    def _read(self) -> dict[str, KeptLogin]:
        if self.path is None:
            return {}
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if stat.S_IMODE(status.st_mode) & 0o077:
                    raise StackitError(f"{self.path}: others can read it; remove it, and log in again: stackit login")
                return msgspec.json.decode(file.read(), type=dict[str, KeptLogin])
        except FileNotFoundError:
            return {}
        except OSError as problem:
            raise StackitError(f"{self.path}: cannot be read: {problem.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise StackitError(f"{self.path}: holds no logins; remove it, and log in again: stackit login") from None
