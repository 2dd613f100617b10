"""Credentials of requests to GitHub's API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class Credential(Protocol):
    """One identity towards GitHub: an App, an installation of it, or a person's token.

    ``key`` is the identity for limits: GitHub counts the requests of each by itself. It is the name of the App, and
    behind a slash the installation (``main``, ``main/4711``), or the path of the file that a token is in. Metrics show
    the App or the path.
    """

    @property
    def key(self) -> str:
        """Return the identity for limits."""

    async def authorization(self) -> str:
        """Return the value of the header ``Authorization``. Raises StackitError where there is none, and says why."""

    def rejected(self, authorization: str, status: int) -> bool:
        """Take note that GitHub answered 401 or 403 to this value; return True where another try makes sense."""

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take note of the headers of an answer; their names are in lower case."""


class TokenCredential:
    """A token that ``read`` returns, such as that of ``token_file``."""

    def __init__(self, key: str, read: Callable[[], str]) -> None:
        """``read`` raises StackitError where there is no token."""
        self.key = key
        self._read = read

    async def authorization(self) -> str:
        """Return the token as a bearer token."""
        return f"Bearer {self._read()}"

    def rejected(self, authorization: str, status: int) -> bool:
        """Return True where the file has another token by now."""
        return status == 401 and authorization != f"Bearer {self._read()}"

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take no note: the client remembers when the token expires."""


class NoCredential:
    """Requests without a credential: the exchange of a manifest's code."""

    def __init__(self, key: str) -> None:
        self.key = key

    async def authorization(self) -> str:
        """Return nothing, so that no header is sent."""
        return ""

    def rejected(self, authorization: str, status: int) -> bool:  # noqa: ARG002 - the protocol's
        """Return False: there is nothing to try instead."""
        return False

    def answered(self, headers: Mapping[str, str]) -> None:
        """Take no note."""
