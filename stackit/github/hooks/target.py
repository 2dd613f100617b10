"""Whose webhook it is: an App's, an organization's or a repository's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from stackit.api.events import Repo
from stackit.github.names import parse_repo

Kind = Literal["app", "owner", "repo"]


class HookTarget(msgspec.Struct, frozen=True, order=True):
    """The App, the organization or the repository that a webhook belongs to. ``name`` is as people write it.

    ``scope`` is the scope of its secret, ``text`` is how a command names it: ``app:main``, ``octo``, ``octo/widget``.
    """

    kind: Kind
    name: str

    @classmethod
    def parse(cls, text: str) -> HookTarget:
        """Return the target that a command or a scope names. Raises ValueError."""
        kind, colon, name = text.partition(":")
        if not colon:
            kind, name = ("repo" if "/" in text else "owner"), text
        try:
            if kind == "app" and name and name.isprintable() and "/" not in name:
                return cls("app", name)
            if kind == "owner" and name:
                return cls("owner", parse_repo(f"{name}/x").owner)
            if kind == "repo":
                return cls("repo", str(parse_repo(name)))
        except ValueError:
            pass
        raise ValueError(f"not a webhook: {text[:80]!r}; expected app:NAME, ORGANIZATION or OWNER/NAME")

    @property
    def scope(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def key(self) -> str:
        """The scope, equal for every spelling."""
        return self.scope.lower()

    @property
    def text(self) -> str:
        return self.scope if self.kind == "app" else self.name

    @property
    def label(self) -> str:
        """The webhook in a sentence."""
        return f"the webhook of {'the App ' if self.kind == 'app' else ''}{self.name}"

    @property
    def repo(self) -> Repo | None:
        """The repository, None for an App and an organization."""
        return parse_repo(self.name) if self.kind == "repo" else None

    @property
    def list_route(self) -> str:
        """The route of the API with the webhooks of an organization or a repository."""
        return "/orgs/{org}/hooks" if self.kind == "owner" else "/repos/{owner}/{repo}/hooks"

    @property
    def values(self) -> dict[str, Any]:
        """The values of ``list_route``."""
        repo = self.repo
        return {"org": self.name} if repo is None else {"owner": repo.owner, "repo": repo.name}
