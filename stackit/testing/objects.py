"""The objects in GitHub's payloads: repositories, people, commits.

The keys are those that GitHub's documentation says are always there ("Webhook events and payloads", and the
objects of "REST API endpoints for repositories"). Ids and times are made up, and the same on every run.
"""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from stackit.api.events import Repo

Json = dict[str, Any]

API = "https://api.github.com"
SITE = "https://github.com"
EPOCH = 1767225600
"""The time of all made-up objects: 2026-01-01T00:00:00Z, in epoch seconds."""
THEN = "2026-01-01T00:00:00Z"


def _paths(table: str) -> tuple[tuple[str, str], ...]:
    pairs = (entry.partition("=") for entry in table.split())
    return tuple((f"{key}_url", f"/{path or key}") for key, _, path in pairs)


# The addresses of the API that a repository and a user carry: KEY_url=path, or KEY_url where both are alike.
_REPOSITORY_ADDRESSES = _paths("""
forks keys=keys{/key_id} collaborators=collaborators{/collaborator} teams hooks issue_events=issues/events{/number}
events assignees=assignees{/user} branches=branches{/branch} tags blobs=git/blobs{/sha} git_tags=git/tags{/sha}
git_refs=git/refs{/sha} trees=git/trees{/sha} statuses=statuses/{sha} languages stargazers contributors subscribers
subscription commits=commits{/sha} git_commits=git/commits{/sha} comments=comments{/number}
issue_comment=issues/comments{/number} contents=contents/{+path} compare=compare/{base}...{head} merges
archive={archive_format}{/ref} downloads issues=issues{/number} pulls=pulls{/number} milestones=milestones{/number}
notifications=notifications{?since,all,participating} labels=labels{/name} releases=releases{/id} deployments
""")
_USER_ADDRESSES = _paths("""
followers following=following{/other_user} gists=gists{/gist_id} starred=starred{/owner}{/repo} subscriptions
organizations=orgs repos events=events{/privacy} received_events
""")


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a push. ``timestamp`` is epoch seconds."""

    id: str
    tree: str
    message: str
    timestamp: int = EPOCH
    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def number(name: str) -> int:
    """Return a made-up id for a name: the same on every run, and hardly ever shared."""
    return zlib.crc32(name.encode()) or 1


def user(login: str = "octocat", kind: str = "User") -> Json:
    """A person, or an owner: the ``sender`` and so many others. ``kind``: User, Organization or Bot."""
    url = f"{API}/users/{login}"
    return {
        "login": login,
        "id": number(login),
        "node_id": f"U_{number(login)}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number(login)}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{SITE}/{login}",
        **_addresses(_USER_ADDRESSES, url),
        "type": kind,
        "site_admin": False,
    }


def organization(login: str = "octo") -> Json:
    """An ``organization``."""
    url = f"{API}/orgs/{login}"
    return {
        "login": login,
        "id": number(login),
        "node_id": f"O_{number(login)}",
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number(login)}?v=4",
        "description": None,
    }


def repository(
    repo: Repo | str = "octo/widget",
    *,
    private: bool = False,
    default_branch: str = "main",
    clone_url: str | None = None,
    owner: Json | None = None,
    api: str = API,
) -> Json:
    """A ``repository``. ``clone_url`` is where git finds it, by default on github.com; ``api`` the base of its API.

    ``owner`` is one that is made already.
    """
    found = repo if isinstance(repo, Repo) else Repo.parse(repo)
    url, page = f"{api}/repos/{found}", f"{SITE}/{found}"
    return {
        "id": number(found.key),
        "node_id": f"R_{number(found.key)}",
        "name": found.name,
        "full_name": str(found),
        "private": private,
        "owner": owner or user(found.owner, "Organization"),
        "html_url": page,
        "description": None,
        "fork": False,
        "url": url,
        **_addresses(_REPOSITORY_ADDRESSES, url),
        "created_at": THEN,
        "updated_at": THEN,
        "pushed_at": THEN,
        "git_url": f"git://github.com/{found}.git",
        "ssh_url": f"git@github.com:{found}.git",
        "clone_url": clone_url or f"{page}.git",
        "svn_url": page,
        "homepage": None,
        "size": 1,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        **dict.fromkeys(("has_issues", "has_projects", "has_downloads", "has_wiki"), True),
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": False,
        "disabled": False,
        "open_issues_count": 0,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if private else "public",
        "forks": 0,
        "open_issues": 0,
        "watchers": 0,
        "default_branch": default_branch,
        "custom_properties": {},
    }


def _addresses(paths: tuple[tuple[str, str], ...], base: str) -> dict[str, str]:
    return {key: base + path for key, path in paths}


def thing(kind: str, **own: Any) -> Json:
    """An object with an id, addresses and times, as most of the API have; ``own`` are its other keys."""
    return {
        "id": number(kind),
        "node_id": f"N_{number(kind)}",
        "url": f"{API}/{kind}s/1",
        "html_url": f"{SITE}/{kind}s/1",
        "created_at": THEN,
        "updated_at": THEN,
        **own,
    }


def commit(made: Commit, page: str, login: str = "octocat") -> Json:
    """An element of a push's ``commits``; ``page`` is the repository's ``html_url``."""
    person = {"name": login, "email": f"{login}@users.noreply.github.com", "username": login}
    return {
        "id": made.id,
        "tree_id": made.tree,
        "distinct": True,
        "message": made.message,
        "timestamp": utc(made.timestamp),
        "url": f"{page}/commit/{made.id}",
        "author": person,
        "committer": person,
        "added": list(made.added),
        "removed": list(made.removed),
        "modified": list(made.modified),
    }


def utc(seconds: int) -> str:
    """Format epoch seconds as GitHub does: ``2026-01-01T00:00:00Z``."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def push_payload(
    repo: Repo | str = "octo/widget",
    ref: str = "refs/heads/main",
    before: str = "1" * 40,
    after: str = "2" * 40,
    *,
    forced: bool = False,
    commits: Sequence[Commit] | None = None,
    sender: str = "octocat",
    repository_object: Json | None = None,
) -> Json:
    """A push of ``ref`` from ``before`` to ``after`` (full hex object ids, zeros for none).

    As "Webhook events and payloads", push: a deletion has no commits and no head commit; a new branch compares
    with nothing; a repository's ``created_at`` and ``pushed_at`` are epoch seconds here, and texts elsewhere;
    ``owner`` and ``pusher`` carry ``name`` and ``email``; at most 2,048 commits are told. Without ``commits``, one
    is made up. ``repository_object`` stands in for ``repository(repo)``.
    """
    about = repository_object or repository(repo)
    created, deleted = not before.strip("0"), not after.strip("0")
    page = about["html_url"]
    if commits is None:
        commits = [Commit(id=after, tree="3" * len(after), message="A change", modified=("README.md",))]
    told = [] if deleted else [commit(each, page, sender) for each in commits]
    owner = about["owner"]
    span = after[:12] if created else before[:12] if deleted else f"{before[:12]}...{after[:12]}"
    email = f"{sender}@users.noreply.github.com"
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "repository": {
            **about,
            "owner": {"name": owner["login"], "email": None, **owner},
            "created_at": EPOCH,
            "pushed_at": EPOCH,
            "url": page,
            "stargazers": 0,
            "master_branch": about["default_branch"],
        },
        "pusher": {"name": sender, "email": email},
        "sender": user(sender),
        "created": created,
        "deleted": deleted,
        "forced": forced,
        "base_ref": None,
        "compare": f"{page}/{'commit' if created or deleted else 'compare'}/{span}",
        "commits": told[:2048],
        "head_commit": told[-1] if told else None,
    }
