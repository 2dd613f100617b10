"""Webhooks as GitHub's API tells of them."""

from __future__ import annotations

import msgspec


class HookConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The ``config`` of a webhook. GitHub shows asterisks for a secret, and leaves the key out without one."""

    url: str | None = None
    content_type: str | None = "form"
    secret: str | None = None
    insecure_ssl: str | int | None = "0"

    @property
    def is_insecure(self) -> bool:
        """Return whether GitHub does not check the certificate of the receiver."""
        return str(self.insecure_ssl) == "1"


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """The webhook of an organization or a repository."""

    id: int
    active: bool
    events: tuple[str, ...]
    config: HookConfig


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of an App: a person, or an organization."""

    login: str = ""
    type: str = "User"


class AppPage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /app``: what the App asks for, and where its settings are."""

    slug: str = ""
    html_url: str = ""
    owner: Account | None = None
    events: tuple[str, ...] = ()
    permissions: dict[str, str] = {}

    def settings_url(self, web_url: str) -> str:
        """Return the page of its settings; ``web_url`` is that of GitHub."""
        owner = self.owner
        of = f"/organizations/{owner.login}" if owner is not None and owner.type == "Organization" else ""
        return f"{web_url}{of}/settings/apps/{self.slug}"


class FoundHook(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, whosever it is.

    ``id`` and ``active`` are None for an App's, of which GitHub tells neither. ``events`` are those of the App, then.
    ``settings`` is the page of the App, ``lacking`` are the permissions that the App lacks.
    """

    id: int | None = None
    config: HookConfig
    active: bool | None = None
    events: tuple[str, ...] = ()
    settings: str | None = None
    lacking: tuple[str, ...] = ()


def of_hook(hook: Hook) -> FoundHook:
    """Return the webhook of an organization or a repository."""
    return FoundHook(id=hook.id, config=hook.config, active=hook.active, events=hook.events)
