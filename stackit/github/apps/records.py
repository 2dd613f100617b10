"""The answers of GitHub's API about an App, as far as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec


class Account(msgspec.Struct, frozen=True):
    """The owner of repositories: an organization or a person."""

    id: int
    login: str


class InstallationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An installation of an App, in the settings of an account."""

    id: int
    account: Account
    target_type: str = ""
    repository_selection: Literal["all", "selected"] = "selected"
    permissions: Mapping[str, str] = {}
    suspended_at: datetime | None = None


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was just made."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"TokenRecord(expires_at={self.expires_at!r})"
