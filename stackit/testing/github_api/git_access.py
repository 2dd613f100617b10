"""Who may read which repository with git."""

from __future__ import annotations

from stackit.api.events import Repo
from stackit.testing.github_api.credentials import label
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

    def admit(self, repo: Repo, password: str | None) -> tuple[str, Served | GitRefused]:
        """Return who it is that comes with this password (None for none), and what to serve of a repository.

        What is private is not found for others; whoever comes without a password is asked for one. A token that
        is no good is refused, for a public repository, too. A former name leads to the repository's new one.
        """
        token = None if password is None else self._tokens.find(password)
        caller = "anonymous" if password is None else "other" if token is None else label(token)
        found = self._repositories.find(repo)
        known = found or self._repositories.formerly(repo)
        if known is None:
            return caller, _WHO if password is None else _NOT_FOUND
        refused = _refused(known, password, token)
        if refused is None and found is None:
            refused = GitRefused(301, b"Moved Permanently", moved_to=known.repo)
        return caller, refused or known.served


def _refused(found: HostedRepository, password: str | None, token: Token | None) -> GitRefused | None:
    if password is None:
        return _WHO if found.private else None
    if found.private and password == found.private_token:
        return None
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
