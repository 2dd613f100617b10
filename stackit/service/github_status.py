"""The shape of ``GET {prefix}/github``: what stackit does at GitHub, by its parts."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit.api.schema import Timestamp
from stackit.github.apps.errors import State
from stackit.github.hooks.answers import ShownHook
from stackit.github.recovery.records import ShownWindow


class ApiClock(msgspec.Struct, frozen=True):
    """A GitHub, and the seconds that its clock is ahead."""

    api_url: str
    clock_offset: float


class ApiLimit(msgspec.Struct, frozen=True):
    """What a limit of GitHub leaves to a credential, and the seconds that requests wait for it."""

    credential: str
    resource: str
    limit: int
    remaining: int
    reset_at: Timestamp
    held_for: float


class ApiStatus(msgspec.Struct, frozen=True):
    """The clocks and the limits of GitHub's API."""

    apis: list[ApiClock]
    limits: list[ApiLimit]


class InstallationStatus(msgspec.Struct, frozen=True):
    """An installation of an App, and why it gives no token."""

    id: int
    account: str
    account_id: int
    state: State
    reason: str | None
    permissions: dict[str, str]
    repository_selection: Literal["all", "selected"]
    token_expires_at: Timestamp | None


class AppStatus(msgspec.Struct, frozen=True):
    """An App, and why GitHub refuses it; null while it does not."""

    name: str
    issuer: str
    api_url: str
    problem: str | None
    listed_at: Timestamp | None
    installations: list[InstallationStatus]


class PersonalToken(msgspec.Struct, frozen=True):
    """A file with a personal token, and its end as GitHub says it."""

    file: str
    expires_at: Timestamp | None


class ListingStatus(msgspec.Struct, frozen=True):
    """A listing of repositories as it was last read."""

    listing: str
    repositories: int
    read_at: Timestamp
    complete_at: Timestamp
    problem: str | None
    held: str | None


class SourceStatus(msgspec.Struct, frozen=True):
    """A source of listings, and why they are not known."""

    source: str
    problem: str | None
    listings: list[ListingStatus]


class RemovedLast(msgspec.Struct, frozen=True):
    """A repository that was discovered, and is mirrored no more."""

    name: str
    id: int | None
    reason: str | None
    removed_at: Timestamp


class DiscoveryStatus(msgspec.Struct, frozen=True):
    """The listings of repositories, and the repositories that were removed last."""

    sources: list[SourceStatus]
    removed: list[RemovedLast]


class RecoveryStatus(msgspec.Struct, frozen=True):
    """A hook whose missed deliveries are taken from GitHub's list."""

    hook: str
    hook_id: str | None
    seen_at: Timestamp | None
    recovered: int
    left: int
    lost: list[ShownWindow]
    problem: str | None


class HooksProblem(msgspec.Struct, frozen=True):
    """Why it is not known which webhooks to look at."""

    problem: str


class SetupStatus(msgspec.Struct, frozen=True):
    """Whether the set-up of an App is open."""

    open: bool


class GitHubStatus(msgspec.Struct, frozen=True):
    """What stackit does at GitHub, by its parts, and what an operator has to know of it, a line each."""

    api: ApiStatus
    apps: list[AppStatus]
    personal_tokens: list[PersonalToken]
    discovery: DiscoveryStatus
    recovery: list[RecoveryStatus]
    hooks: list[ShownHook] | HooksProblem
    setup: SetupStatus
    problems: list[str]
