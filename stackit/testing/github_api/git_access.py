"""Who may read which repository with git."""

from __future__ import annotations

from stackit.api.events import Repo
from stackit.testing.github_api.repositories import HostedRepository, Repositories
from stackit.testing.github_api.tokens import Token, Tokens
from stackit.testing.smarthttp import GitRefused, Served

_NOT_FOUND = GitRefused(404, b"Repository not found.")
_WHO = GitRefused(401, b"Repository not found.", {"WWW-Authenticate": 'Basic realm="GitHub"'})
_BAD = GitRefused(401, b"Bad credentials", {"WWW-Authenticate": 'Basic realm="GitHub"'})
_FORBIDDEN = GitRefused(403, b"Repository access blocked")


class GitAccess:
    """Lets git in, or not."""

    def __init__(self, repositories: Repositories, tokens: Tokens) -> None:
        self._repositories = repositories
        self._tokens = tokens

    def admit(self, repo: Repo, password: str | None) -> Served | GitRefused:
        """Return what to serve to a client with this password (None for a client without one).

        What is private is not found for others; whoever comes without a password is asked for one. A token that
        is no good is refused, for a public repository, too. A former name leads to the repository's new one.
        """
        found = self._repositories.find(repo) or self._repositories.formerly(repo)
        if found is None:
            return _WHO if password is None else _NOT_FOUND
        refused = self._refused(found, password)
        if refused is not None:
            return refused
        if self._repositories.find(repo) is None:
            return GitRefused(301, b"Moved Permanently", moved_to=found.repo)
        return found.served

    def _refused(self, found: HostedRepository, password: str | None) -> GitRefused | None:
        if password is None:
            return _WHO if found.private else None
        if found.private and password == found.served.token:
            return None
        token = self._tokens.find(password)
        if token is not None:
            return _refused_token(found, token)
        return _NOT_FOUND if found.private else None


def _refused_token(found: HostedRepository, token: Token) -> GitRefused | None:
    if token.usable in ("expired", "revoked"):
        return _BAD
    if token.usable != "yes":
        return _NOT_FOUND
    if token.installation is not None and token.installation.suspended_at is not None:
        return _FORBIDDEN
    if not found.private:
        return None
    if not token.reaches(found):
        return _NOT_FOUND
    return None if token.may("contents") else _FORBIDDEN
