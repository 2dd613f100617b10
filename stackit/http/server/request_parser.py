"""The parser of requests. Only the request line is read here: llhttp knows the methods that are registered, and a
handler may have an answer to any.
"""

from __future__ import annotations

import re
from functools import lru_cache

from httptools import HttpRequestParser

from stackit.http.parsing import Malformed, MessageParser

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,8192}) (HTTP/1\.[01])")
_MOST_LINES = 501  # of headers, with the empty one at the end
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
_ONE_HOST = "a request has one Host header, with a name or an address (and perhaps a port)"


class RequestParser(MessageParser):
    """One request.

    ``target`` is the path with its query, also where it came in the form that proxies are sent, behind a scheme and an
    authority; that is the ``Host`` then, whatever the header says (RFC 9112, 3.2.2). ``length`` is that of the body in
    bytes, None where it is chunked. ``persistent`` tells whether the connection may have another request, ``expects``
    whether the client waits for ``100 Continue``, ``http_1_1`` whether it knows chunks.
    """

    __slots__ = ("expects", "http_1_1", "length", "method", "persistent", "target")

    def __init__(self, head: bytes) -> None:
        """``head`` goes to the end of the empty line. Raises Malformed."""
        super().__init__()
        line, _, rest = head.partition(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None or rest.count(b"\n") > _MOST_LINES:
            raise Malformed
        self.method, self.target, version = match.groups()
        self._parse_head(HttpRequestParser(self), b"POST / %s\r\n%s" % (version, rest))
        self.http_1_1 = http_1_1 = version == b"HTTP/1.1"
        self._check_host(required=http_1_1)
        if not self.target.startswith(b"/"):
            self._split_target()
        chunked = self._is_chunked(http_1_1=http_1_1)
        self.length = None if chunked else self._content_length() or 0
        self.persistent = http_1_1 and self._keep_alive
        self.expects = b"expect" in self.headers and http_1_1 and self._expects_continue()
        if not chunked:
            self._llhttp = None
        elif self.ended:
            raise Malformed  # an upgrade, after which llhttp reads no body

    def _check_host(self, *, required: bool) -> None:
        hosts = self.headers.get(b"host")
        if required if hosts is None else len(hosts) > 1 or not _is_host(hosts[0]):
            raise Malformed(_ONE_HOST)

    def _split_target(self) -> None:
        match = _ABSOLUTE.fullmatch(self.target)
        if match is None:
            return  # for a server as a whole, or a tunnel: no path that is served
        authority, path = match.groups()
        if not authority or not _is_host(authority):
            raise Malformed(_ONE_HOST)
        self.headers[b"host"] = (authority,)
        self.target = path if path.startswith(b"/") else b"/" + path

    def _expects_continue(self) -> bool:
        return b"100-continue" in map(bytes.lower, self.headers[b"expect"])


def is_request_line(line: bytes) -> bool:
    """Return whether a head may begin with this line."""
    return _REQUEST_LINE.fullmatch(line) is not None


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    """Return whether a value is one of ``Host``. Most requests have the same."""
    return _HOST.fullmatch(value) is not None
