"""What went wrong with git, from what it said: a kind to act on, and one line for a person."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import urlsplit

import msgspec

Kind = Literal["gone", "forbidden", "moved", "throttled", "stalled", "disk", "remote", "mirror"]
"""``gone``: no such repository. ``forbidden``: access refused. ``moved``: it has another address.
``throttled``: the remote wants to be left alone. ``stalled``: no progress. ``disk``: no room.
``remote``: anything else at the remote's end or on the way. ``mirror``: anything else."""

_TRACE = re.compile(r"\d\d:\d\d:\d\d\.\d+ http\.c:\d+ +(?:<=|=>|==) ")
_STATUS = re.compile(r"<= Recv header: HTTP/[\d.]+ (\d{3})")
_HEADER = re.compile(r"<= Recv header: (retry-after|location): *(\S.*)", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_ADVICE = re.compile(r"^(?:fatal|error): (?!the remote end hung up|could not fetch|early EOF)(.*)$", re.MULTILINE)
_LONGEST_WAIT = 86400.0

_STATUSES: dict[int, Kind] = {401: "forbidden", 403: "forbidden", 404: "gone", 410: "gone", 429: "throttled"}

# In this order: trouble in the mirror makes the remote's end of the line hang up as well.
_SIGNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("disk", re.compile(r"No space left on device|[Dd]isk quota exceeded|File too large")),
    (
        "mirror",
        re.compile(
            r"\.lock'|lock ref|not a git repository: |bad object|broken ref|is empty|is corrupt|loose object"
            r"|missing object|did not send all necessary objects|unexpected line in|bad config|unable to read"
        ),
    ),
    ("forbidden", re.compile(r"could not read Username|Authentication failed|terminal prompts disabled|error: 40[13]")),
    ("forbidden", re.compile(r"Permission denied \(publickey|Host key verification failed")),
    ("moved", re.compile(r"error: 30\d|unable to update url base from redirection")),
    ("throttled", re.compile(r"error: 429")),
    ("gone", re.compile(r"[Rr]epository .*not found|error: 4(?:04|10)|does not appear to be a git repository")),
    (
        "remote",
        re.compile(
            r"unable to access|early EOF|hung up|RPC failed|unexpected disconnect|remote error|protocol error"
            r"|[Cc]ould not resolve|[Cc]onnection (?:refused|reset|timed out)|error: 5\d\d|not our ref"
            r"|[Cc]ould not read from remote|mismatched algorithms|expected flush|invalid server response"
        ),
    ),
)

_MEANINGS: dict[Kind, str] = {
    "forbidden": "the remote refuses access: give it a token_file (or a new token) that may read this repository",
    "moved": "the remote redirects elsewhere: the repository was renamed or moved, so set its url",
    "gone": "the remote has no such repository, or its token may not see it",
    "throttled": "the remote asks for fewer requests",
    "disk": "there is no room left on the disk of the mirrors",
}


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The last answer over HTTP: its status, and where it said so how long to wait (seconds), and where to go."""

    status: int | None = None
    retry_after: float | None = None
    location: str | None = None


def heard(stderr: str, now: float, redact: Callable[[str], str] = str) -> tuple[str, Answered]:
    """git's own words, and the last HTTP answer, from stderr with the trace of HTTP in between.

    ``redact`` takes the credentials out of each: a remote may say back what it was sent.
    """
    said, answered = [], Answered()
    for line in stderr.replace("\r", "\n").splitlines():
        if not _TRACE.match(line):
            if line.strip():
                said.append(redact(line))
        elif status := _STATUS.search(line):
            answered = Answered(status=int(status[1]))
        elif header := _HEADER.search(line):
            name, value = header[1].lower(), header[2].strip()
            if name == "location":
                answered = msgspec.structs.replace(answered, location=_address(redact(value)))
            else:
                answered = msgspec.structs.replace(answered, retry_after=wait(value, now))
    return "\n".join(said), answered


def kind_of(said: str, answered: Answered) -> Kind:
    """What kind of trouble it is."""
    if answered.retry_after is not None and answered.status in (403, 429, 503):
        return "throttled"
    for kind, sign in _SIGNS:
        if sign.search(said):
            return kind
    return _STATUSES.get(answered.status or 0, "mirror")


def reason(kind: Kind, said: str, answered: Answered, status: int) -> str:
    """One line, with what git said. ``status`` is git's own."""
    lines = said.splitlines()
    details = _ADVICE.findall(said) or lines[-1:]
    detail = " ".join(details[-1].split())[:300] if details else f"git ended with status {status}"
    if kind not in _MEANINGS:
        return f"git: {detail}"
    meaning = _MEANINGS[kind]
    if kind == "moved" and answered.location is not None:
        meaning = f"{meaning} to {answered.location}"
    if kind == "throttled" and answered.retry_after is not None:
        meaning = f"{meaning}: none for {answered.retry_after:g} seconds"
    return f"{meaning} (git: {detail})"


def redacted(text: str) -> str:
    """The text without the user and password that a URL in it may carry."""
    return _USERINFO.sub("", text)


def wait(value: str, now: float) -> float | None:
    """What ``Retry-After`` says, in seconds, from a number of them or a date (RFC 9110, section 10.2.3)."""
    if re.fullmatch(r"\d{1,9}", value):
        return min(float(value), _LONGEST_WAIT)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), _LONGEST_WAIT)
    except ValueError:
        return None


def _address(location: str) -> str | None:
    """The repository that a redirect of ``/info/refs`` leads to; None for what is no URL."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not location.isprintable():
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix('/info/refs')}"[:200]
