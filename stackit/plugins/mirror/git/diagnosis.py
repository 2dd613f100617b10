"""Diagnose a failure of git: a kind to act on, and one line for a person."""

from __future__ import annotations

import re

from stackit.plugins.mirror.git.causes import find_cause
from stackit.plugins.mirror.git.errors import GitErrorKind
from stackit.plugins.mirror.git.http_trace import Advertisement, HttpAnswer

_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_PAGES = {"text/html": "an HTML page", "application/xhtml+xml": "an HTML page", "application/json": "JSON"}
# Messages of the remote; over ssh or from a path, those of its git have no mark.
_REMOTES = re.compile(r"^(?:remote: |.*remote error: |.*upload-pack: |.*\(stored in \./).*$", re.MULTILINE)
# The warnings in the negative lookahead leave no ref out.
_WARNING = re.compile(r"(?:warning|error): (?![Ii]gnoring --negotiation|redirecting to|no common commits)")

_STATUSES: dict[int, GitErrorKind] = {401: "forbidden", 403: "forbidden", 404: "gone", 410: "gone", 429: "throttled"}

# In this order: a failure of the mirror makes the remote hang up as well.
_OWN_SIGNS: tuple[tuple[GitErrorKind, re.Pattern[str]], ...] = (
    ("memory", re.compile(r"[Oo]ut of memory|[Cc]annot allocate memory|unable to create .*thread")),
    ("disk", re.compile(r"No space left on device|[Dd]isk quota exceeded|File too large")),
    (
        "mirror",
        re.compile(
            r"\.lock'|lock ref|not a git repository: |bad object|broken ref|is empty|is corrupt|loose object"
            r"|missing object|did not send all necessary objects|unexpected line in|bad config|unable to read"
        ),
    ),
)
# The remote's git, on this machine or over ssh, and not the one that works in the mirror.
_FOREIGN = re.compile(r"detected dubious ownership[\s\S]*Could not read from remote")
_EXHAUSTED = tuple(sign for kind, sign in _OWN_SIGNS if kind in ("memory", "disk"))
_SIGNS: tuple[tuple[GitErrorKind, re.Pattern[str]], ...] = (
    ("forbidden", re.compile(r"could not read Username|Authentication failed|terminal prompts disabled|error: 40[13]")),
    (
        "forbidden",
        re.compile(r"Permission denied \(|Host key verification failed|DENIED by |HOST IDENTIFICATION HAS CH"),
    ),
    ("forbidden", _FOREIGN),
    ("moved", re.compile(r"error: 30\d|unable to update url base from redirection")),
    ("throttled", re.compile(r"error: 429")),
    (
        "gone",
        re.compile(
            r"[Rr]epository .*not found|error: 4(?:04|10)|does not appear to be a git repository"
            r"|[Rr]epository not found|could not be found or you don't have permission|[Cc]annot find repository"
            r"|access denied or repository not exported"
        ),
    ),
    (
        "remote",
        re.compile(
            r"unable to access|early EOF|hung up|RPC failed|unexpected disconnect|remote error|protocol error"
            r"|[Cc]ould not resolve|[Cc]onnection (?:refused|reset|timed out)|error: 5\d\d|not our ref"
            r"|[Cc]ould not read from remote|mismatched algorithms|expected flush|invalid server response"
        ),
    ),
)

_MEANINGS: dict[GitErrorKind, str] = {
    "moved": "the remote redirects elsewhere: the repository was renamed or moved, so set its url",
    "throttled": "the remote asks for fewer requests",
    "memory": "git needs more memory than it may have (plugins.mirror.git_memory), or than there is",
    "disk": "there is no room left on the disk of the mirrors",
}


# Advice by the scheme of the URL, or "app" where the tokens are a GitHub App's; "" is for all others.
_FORBIDDEN = {
    "app": "the remote refuses access: let the App read the contents of this repository, at GitHub in the settings of "
    "its owner",
    "http": "the remote refuses access: give it a token_file (or a new token) that may read this repository",
    "ssh": "the remote refuses access: give it an ssh_key_file (or its user a key) that may read this repository",
    "git": "the remote refuses access, and git:// has no way to log in: use https:// or ssh://",
    "": "the remote refuses access: let stackit's user read it",
}
_GONE = {
    "app": "the remote has no such repository, or the App is not installed for it",
    "http": "the remote has no such repository, or its token may not see it",
    "ssh": "the remote has no such repository, or the ssh key may not see it",
    "": "the remote has no such repository, or stackit's user may not see it",
}
_UNKNOWN_HOST = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED")
_UNKNOWN_HOST_MEANS = (
    "the host's ssh key is not the one that known_hosts has, or it has none: compare it with what the host "
    "publishes, and add it (known_hosts_file)"
)
_FOREIGN_MEANS = {
    "ssh": "the repository belongs there to another user than the one that logs in: chown it, or name it in that "
    "user's safe.directory",
    "": "git refuses a repository on this machine that belongs to another user than stackit's: chown it, or fetch it "
    "by ssh:// or https://",
}


def classify(said: str, answer: HttpAnswer, otherwise: GitErrorKind = "mirror") -> GitErrorKind:
    """Return the kind of a failure by git's messages and the last HTTP answer; ``otherwise`` if they do not tell.

    Only git's own messages are about the mirror: those of the remote are about the remote.
    """
    if answer.retry_after is not None and answer.status in (403, 429, 503):
        return "throttled"
    if _is_not_git(said, answer):
        return "remote"
    own = _REMOTES.sub("", said)
    for signs, words in ((_OWN_SIGNS, own), (_SIGNS, said)):
        for kind, sign in signs:
            if sign.search(words):
                return kind
    return _STATUSES.get(answer.status or 0, otherwise)


def is_exhausted(said: str) -> bool:
    """Return True if git had too little memory, or room on the disk: what it found then says nothing of the mirror."""
    own = _REMOTES.sub("", said)
    return any(sign.search(own) for sign in _EXHAUSTED)


def explain(kind: GitErrorKind, said: str, answer: HttpAnswer, status: int, access: str = "") -> str:
    """Return one line with the meaning of a failure, the way out, and its cause in the words of git or the remote.

    ``status`` is git's exit status. The way out depends on the ``access``: the scheme of the URL, or "app".
    """
    if answer.advertisement is not None and _is_not_git(said, answer):
        return not_git_reason(answer.advertisement)
    detail = find_cause(said) or f"git ended with status {status}"
    meaning = _meaning(kind, said, access.replace("https", "http"))
    if meaning is None:
        return f"git: {detail}"
    if kind == "moved" and answer.location is not None:
        meaning = f"{meaning} to {answer.location}"
    if kind == "throttled" and answer.retry_after is not None:
        meaning = f"{meaning}: none for {answer.retry_after:g} seconds"
    return f"{meaning} (git: {detail})"


def _meaning(kind: GitErrorKind, said: str, access: str) -> str | None:
    if kind == "forbidden" and _FOREIGN.search(said):
        return _FOREIGN_MEANS.get(access, _FOREIGN_MEANS[""])
    if kind == "forbidden":
        return _UNKNOWN_HOST_MEANS if _UNKNOWN_HOST.search(said) else _FORBIDDEN.get(access, _FORBIDDEN[""])
    return _GONE.get(access, _GONE[""]) if kind == "gone" else _MEANINGS.get(kind)


def _is_not_git(said: str, answer: HttpAnswer) -> bool:
    """Return True if the server sent a page in place of its refs, which git could not read."""
    page = answer.advertisement
    return page is not None and page.status == 200 and not page.smart and "not valid: is this a git repo" in said


def not_git_reason(page: Advertisement) -> str:
    """Return one line about a page that a server sent in place of its refs."""
    content = "an empty answer" if page.empty else _PAGES.get(page.content_type, "a page")
    shown = page.content_type if _TYPE.fullmatch(page.content_type) else "no content type"
    return f"the remote sent {content} ({page.status}, {shown}), not git: check the URL"


def find_warnings(said: str) -> str:
    """Return the lines in which git warns, though it succeeded: it may have left out a ref."""
    return "\n".join(line for line in said.splitlines() if _WARNING.match(line))
