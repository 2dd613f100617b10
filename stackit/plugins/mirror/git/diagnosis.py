"""What went wrong with git, from what it said: a kind to act on, and one line for a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from stackit.http.client import parse_retry_after
from stackit.plugins.mirror.git.causes import cause
from stackit.plugins.mirror.git.errors import GitErrorKind
from stackit.plugins.mirror.remote.protocol_v2 import ADVERTISEMENT_TYPE

_LISTING = "/info/refs?service=git-upload-pack"
_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_PAGES = {"text/html": "an HTML page", "application/xhtml+xml": "an HTML page", "application/json": "JSON"}
_TRACE = re.compile(r"\d\d:\d\d:\d\d\.\d+ http\.c:\d+ +(?:<=|=>|==) ")
_STATUS = re.compile(r"<= Recv header: HTTP/[\d.]+ (\d{3})")
_HEADER = re.compile(r"<= Recv header: (retry-after|location|content-type|content-length): *(\S.*)", re.IGNORECASE)
_REQUEST = re.compile(r"=> Send header: ([A-Z]+) (\S+) HTTP/")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
# What the remote says, or its git without saying whose words these are, by way of ssh or a path.
_REMOTES = re.compile(r"^(?:remote: |.*remote error: |.*upload-pack: |.*\(stored in \./).*$", re.MULTILINE)
# A remote of the old protocol is told of all refs, and that is all.
_WARNING = re.compile(r"(?:warning|error): (?![Ii]gnoring --negotiation|redirecting to|no common commits)")

_STATUSES: dict[int, GitErrorKind] = {401: "forbidden", 403: "forbidden", 404: "gone", 410: "gone", 429: "throttled"}

# In this order: trouble in the mirror makes the remote's end of the line hang up as well.
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
_SIGNS: tuple[tuple[GitErrorKind, re.Pattern[str]], ...] = (
    ("forbidden", re.compile(r"could not read Username|Authentication failed|terminal prompts disabled|error: 40[13]")),
    (
        "forbidden",
        re.compile(r"Permission denied \(|Host key verification failed|DENIED by |HOST IDENTIFICATION HAS CH"),
    ),
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


# What a URL of this scheme can do about it. "" is for all others.
_FORBIDDEN = {
    "http": "the remote refuses access: give it a token_file (or a new token) that may read this repository",
    "ssh": "the remote refuses access: give it an ssh_key_file (or its user a key) that may read this repository",
    "git": "the remote refuses access, and git:// has no way to log in: use https:// or ssh://",
    "": "the remote refuses access: let stackit's user read it",
}
_GONE = {
    "http": "the remote has no such repository, or its token may not see it",
    "ssh": "the remote has no such repository, or the ssh key may not see it",
    "": "the remote has no such repository, or stackit's user may not see it",
}
_UNKNOWN_HOST = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED")
_UNKNOWN_HOST_MEANS = (
    "the host's ssh key is not the one that known_hosts has, or it has none: compare it with what the host "
    "publishes, and add it (known_hosts_file)"
)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer over HTTP to the question for refs: its status, its content type ("" without one), whether empty."""

    status: int
    content_type: str = ""
    empty: bool = False

    @property
    def smart(self) -> bool:
        """Whether it is what git's own servers answer. A dumb server sends a file, of any type."""
        return self.content_type == ADVERTISEMENT_TYPE


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The last answer over HTTP: its status, and where it said so how long to wait (seconds), and where to go.

    ``page`` is the last one to the question for refs; ``posted``: git asked something more, as protocol v2 has it.
    """

    status: int | None = None
    retry_after: float | None = None
    location: str | None = None
    page: Page | None = None
    posted: bool = False


def heard(stderr: str, now: float, redact: Callable[[str], str] = str) -> tuple[str, Answered]:
    """git's own words, and the last HTTP answer, from stderr with the trace of HTTP in between.

    ``redact`` takes the credentials out of each: a remote may say back what it was sent.
    """
    said, answered, listing = [], Answered(), False
    for line in stderr.replace("\r", "\n").splitlines():
        if not _TRACE.match(line):
            if line.strip():
                said.append(redact(line))
        elif request := _REQUEST.search(line):
            listing = _LISTING in request[2]
            answered = msgspec.structs.replace(answered, posted=answered.posted or request[1] == "POST")
        elif status := _STATUS.search(line):
            page = Page(status=int(status[1])) if listing else answered.page
            answered = Answered(status=int(status[1]), page=page, posted=answered.posted)
        elif header := _HEADER.search(line):
            name, value = header[1].lower(), redact(header[2].strip())
            answered = _with_header(answered, name, value, now, listing=listing)
    return "\n".join(said), answered


def _with_header(answered: Answered, name: str, value: str, now: float, *, listing: bool) -> Answered:
    page = answered.page
    if name == "location":
        return msgspec.structs.replace(answered, location=_address(value))
    if name == "retry-after":
        return msgspec.structs.replace(answered, retry_after=parse_retry_after(value, now))
    if page is None or not listing:
        return answered
    if name == "content-type":
        page = msgspec.structs.replace(page, content_type=value.partition(";")[0].strip().lower())
    else:
        page = msgspec.structs.replace(page, empty=value == "0")
    return msgspec.structs.replace(answered, page=page)


def kind_of(said: str, answered: Answered, otherwise: GitErrorKind = "mirror") -> GitErrorKind:
    """What kind of trouble it is; ``otherwise`` where nothing tells.

    Only git's own words are about the mirror: what the remote says is about the remote.
    """
    if answered.retry_after is not None and answered.status in (403, 429, 503):
        return "throttled"
    if _is_no_git(said, answered):
        return "remote"
    own = _REMOTES.sub("", said)
    for signs, words in ((_OWN_SIGNS, own), (_SIGNS, said)):
        for kind, sign in signs:
            if sign.search(words):
                return kind
    return _STATUSES.get(answered.status or 0, otherwise)


def reason(kind: GitErrorKind, said: str, answered: Answered, status: int, scheme: str = "") -> str:
    """One line, with the cause as git, or who else knew it, told it. ``status`` is git's own.

    ``scheme`` is that of the URL: what it has no use for is no advice.
    """
    if answered.page is not None and _is_no_git(said, answered):
        return no_git(answered.page)
    detail = cause(said) or f"git ended with status {status}"
    meaning = _meaning(kind, said, scheme.replace("https", "http"))
    if meaning is None:
        return f"git: {detail}"
    if kind == "moved" and answered.location is not None:
        meaning = f"{meaning} to {answered.location}"
    if kind == "throttled" and answered.retry_after is not None:
        meaning = f"{meaning}: none for {answered.retry_after:g} seconds"
    return f"{meaning} (git: {detail})"


def _meaning(kind: GitErrorKind, said: str, scheme: str) -> str | None:
    if kind == "forbidden":
        return _UNKNOWN_HOST_MEANS if _UNKNOWN_HOST.search(said) else _FORBIDDEN.get(scheme, _FORBIDDEN[""])
    return _GONE.get(scheme, _GONE[""]) if kind == "gone" else _MEANINGS.get(kind)


def _is_no_git(said: str, answered: Answered) -> bool:
    """Whether what came instead of the list of refs is a page, with which git could do nothing."""
    page = answered.page
    return page is not None and page.status == 200 and not page.smart and "not valid: is this a git repo" in said


def no_git(page: Page) -> str:
    """One line on what came where git's answer should have been."""
    what = "an empty answer" if page.empty else _PAGES.get(page.content_type, "a page")
    shown = page.content_type if _TYPE.fullmatch(page.content_type) else "no content type"
    return f"the remote sent {what} ({page.status}, {shown}), not git: check the URL"


def left_out(said: str) -> str:
    """The lines in which git warns, where it ended well all the same: it may have left something out."""
    return "\n".join(line for line in said.splitlines() if _WARNING.match(line))


def redacted(text: str) -> str:
    """The text without the user and password that a URL in it may carry."""
    return _USERINFO.sub("", text)


def _address(location: str) -> str | None:
    """The repository that a redirect of ``/info/refs`` leads to; None for what is no URL."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not location.isprintable():
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix('/info/refs')}"[:200]
