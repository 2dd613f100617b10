"""The manifest of an App: what stackit asks GitHub to make."""

from __future__ import annotations

from typing import Any

import msgspec

LONGEST_NAME = 34
"""Characters that GitHub allows in the name of an App."""


class AppWish(msgspec.Struct, frozen=True, kw_only=True):
    """The App that somebody wants.

    ``organization`` is None for an App of one's own. ``webhook_url`` is where GitHub shall send, ``callback_url`` where
    it sends the browser back to, ``login_url`` where it sends people who log in. ``manages_hooks`` asks for the
    permissions to change webhooks, too.
    """

    name: str
    organization: str | None
    api_url: str
    web_url: str
    public_url: str
    webhook_url: str
    callback_url: str
    login_url: str
    manages_hooks: bool = False

    @property
    def action(self) -> str:
        """The URL that the browser sends the manifest to."""
        of = f"/organizations/{self.organization}" if self.organization is not None else ""
        return f"{self.web_url}{of}/settings/apps/new"

    def manifest(self) -> dict[str, Any]:
        """Return the manifest: an App that only reads, and that nobody else can install."""
        # By ``members`` it sees who belongs to the organizations and teams of [login].
        permissions = {"contents": "read", "members": "read", "metadata": "read"}
        if self.manages_hooks:
            permissions["repository_hooks"] = "write"
            if self.organization is not None:
                permissions["organization_hooks"] = "write"
        return {
            "name": self.name[:LONGEST_NAME],
            "url": self.public_url,
            "description": "Mirrors of repositories, by stackit.",
            "hook_attributes": {"url": self.webhook_url, "active": True},
            "redirect_url": self.callback_url,
            "callback_urls": [self.login_url],
            "public": False,
            "default_permissions": permissions,
            "default_events": ["membership", "organization", "push", "repository", "team"],
        }
