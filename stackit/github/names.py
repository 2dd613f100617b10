"""The names of repositories on GitHub."""

from __future__ import annotations

from stackit.api.events import Repo


def parse_repo(full_name: str) -> Repo:
    """Return the repository ``owner/name``.

    Raises ValueError where GitHub does not allow the owner or the name. GitHub cuts ``.git`` off at the end of a name,
    so there is no repository with one.
    """
    repo = Repo.parse(full_name)
    if repo.host:
        raise ValueError(f"not a repository name: {full_name[:80]!r} (expected owner/name)")
    if repo.name.lower().endswith(".git"):
        raise ValueError("a repository's name has no .git at its end")
    return repo
