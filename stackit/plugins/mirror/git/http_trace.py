"""The HTTP answers that git got, from the trace that it writes to stderr (``GIT_TRACE_CURL``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from stackit.http.client import parse_retry_after
from stackit.plugins.mirror.remote.protocol_v2 import ADVERTISEMENT_TYPE

_ADVERTISEMENT = "/info/refs?service=git-upload-pack"
_TRACE = re.compile(r"\d\d:\d\d:\d\d\.\d+ http\.c:\d+ +(?:<=|=>|==) ")
_STATUS = re.compile(r"<= Recv header: HTTP/[\d.]+ (\d{3})")
_HEADER = re.compile(r"<= Recv header: (retry-after|location|content-type|content-length): *(\S.*)", re.IGNORECASE)
_REQUEST = re.compile(r"=> Send header: ([A-Z]+) (\S+) HTTP/")


class Advertisement(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to the request for refs: status, content type ("" without one), and True if its body is empty."""

    status: int
    content_type: str = ""
    empty: bool = False

    @property
    def smart(self) -> bool:
        """True for the answer of a server that speaks git's protocol. A dumb server sends a file, of any type."""
        return self.content_type == ADVERTISEMENT_TYPE


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The last HTTP answer: status, seconds to wait and URL to go to, where it names them.

    ``advertisement`` is the last answer to a request for refs. ``posted``: git sent a POST as well, as it does for
    protocol v2.
    """

    status: int | None = None
    retry_after: float | None = None
    location: str | None = None
    advertisement: Advertisement | None = None
    posted: bool = False


def parse_stderr(stderr: str, now: float, redact: Callable[[str], str] = str) -> tuple[str, HttpAnswer]:
    """Return git's messages, and the last HTTP answer, of a stderr with a trace in it.

    ``now`` is in epoch seconds. ``redact`` removes credentials from each line and header: a remote may repeat those
    that it was sent.
    """
    messages, answer, listing = [], HttpAnswer(), False
    for line in stderr.replace("\r", "\n").splitlines():
        if not _TRACE.match(line):
            if line.strip():
                messages.append(redact(line))
        elif request := _REQUEST.search(line):
            listing = _ADVERTISEMENT in request[2]
            answer = msgspec.structs.replace(answer, posted=answer.posted or request[1] == "POST")
        elif status := _STATUS.search(line):
            advertisement = Advertisement(status=int(status[1])) if listing else answer.advertisement
            answer = HttpAnswer(status=int(status[1]), advertisement=advertisement, posted=answer.posted)
        elif header := _HEADER.search(line):
            name, value = header[1].lower(), redact(header[2].strip())
            answer = _with_header(answer, name, value, now, listing=listing)
    return "\n".join(messages), answer


def _with_header(answer: HttpAnswer, name: str, value: str, now: float, *, listing: bool) -> HttpAnswer:
    advertisement = answer.advertisement
    if name == "location":
        return msgspec.structs.replace(answer, location=_repository_url(value))
    if name == "retry-after":
        return msgspec.structs.replace(answer, retry_after=parse_retry_after(value, now))
    if advertisement is None or not listing:
        return answer
    if name == "content-type":
        content_type = value.partition(";")[0].strip().lower()
        advertisement = msgspec.structs.replace(advertisement, content_type=content_type)
    else:
        advertisement = msgspec.structs.replace(advertisement, empty=value == "0")
    return msgspec.structs.replace(answer, advertisement=advertisement)


def _repository_url(location: str) -> str | None:
    """Return the URL of the repository that a redirect of ``/info/refs`` leads to, or None if it is no URL."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not location.isprintable():
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.removesuffix('/info/refs')}"[:200]
