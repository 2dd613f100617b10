"""How a request is read: by llhttp, the parser of Node, through httptools.

It is strict about what matters where a proxy in front may read the same bytes another way: line ends, white
space, lengths that repeat or contradict. Only the request line is read here: llhttp knows the
methods that are registered, and the contract has an answer to any.
"""

from __future__ import annotations

import re

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from stackit.http.server.responses import HOST, MALFORMED, Refusal

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]{1,8192}) (HTTP/1\.[01])")
_MOST_LINES = 501  # of headers, with the empty one at the end
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


class Malformed(Exception):
    """It is not HTTP/1.1; ``refusal`` is what it is answered."""

    def __init__(self, refusal: Refusal = MALFORMED) -> None:
        super().__init__()
        self.refusal = refusal


class RequestParser:
    """A request that is being read: its head at once, and a chunked body as it comes.

    ``target`` is the path with its query, also where it came in the form that proxies are sent, behind a scheme and an
    authority; that is the ``Host`` then, whatever the header says (RFC 9112, 3.2.2). ``headers`` have lower-case names,
    and every value that came. ``length`` is that of the body in bytes, None where it is chunked. ``persistent`` tells
    whether the connection may have another request.
    """

    __slots__ = (
        "_head_ended",
        "_keep_alive",
        "_own",
        "_parser",
        "_pieces",
        "ended",
        "excess",
        "expects",
        "headers",
        "length",
        "method",
        "on_body",
        "persistent",
        "target",
    )

    def __init__(self, head: bytes) -> None:
        """``head`` goes to the end of the empty line. Raises Malformed."""
        line, _, rest = head.partition(b"\r\n")
        match = _REQUEST_LINE.fullmatch(line)
        if match is None or rest.count(b"\n") > _MOST_LINES:
            raise Malformed
        self.method, self.target, version = match.groups()
        self.headers: dict[bytes, tuple[bytes, ...]] = {}
        self.ended = False
        self.excess = False
        self._keep_alive = False
        self._head_ended = False
        self._pieces: list[bytes] = []
        self._own = 0  # how many of them are of this request, once that is known
        self.on_body = self._pieces.append  # what httptools calls for each chunk, however small
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._feed(b"POST / %s\r\n%s" % (version, rest))
        encodings, lengths = self.headers.get(b"transfer-encoding"), self.headers.get(b"content-length")
        modern = version == b"HTTP/1.1"
        hosts = self.headers.get(b"host")
        if modern if hosts is None else len(hosts) > 1 or _HOST.fullmatch(hosts[0]) is None:
            raise Malformed(HOST)
        if not self.target.startswith(b"/"):
            self._take_apart()
        if encodings is not None and not (modern and _is_chunked(encodings)):
            raise Malformed
        self.persistent = modern and self._keep_alive
        self.expects = modern and b"100-continue" in map(bytes.lower, self.headers.get(b"expect", ()))
        self.length = None if encodings else int(lengths[0]) if lengths else 0
        if encodings is None:
            self._parser = None  # the length says where the body ends: it need not go through the parser
        elif self.ended:
            raise Malformed  # an upgrade, after which llhttp reads no body

    def _take_apart(self) -> None:
        match = _ABSOLUTE.fullmatch(self.target)
        if match is None:
            return  # for a server as a whole, or a tunnel: no path of ours
        authority, path = match.groups()
        if not authority or _HOST.fullmatch(authority) is None:
            raise Malformed(HOST)
        self.headers[b"host"] = (authority,)
        self.target = path if path.startswith(b"/") else b"/" + path

    def chunks(self, data: bytes) -> bytes:
        """Read more of a chunked body: what of ``data`` belongs to it, in one piece. Raises Malformed.

        ``ended`` is set at its end, ``excess`` where something came behind it, whose place is not known.
        """
        self._feed(data)
        body = b"".join(self._pieces[: self._own] if self.ended else self._pieces)
        self._pieces.clear()
        if self.ended:
            self._parser = None
        return body

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - for the type checker
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            return  # stackit offers no other protocol, and answers as if none had been asked for
        except HttpParserError:
            raise Malformed from None

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_ended:
            return  # a trailer, which must not pass for a header: what was decided by the head was decided without it
        name, values = name.lower(), (value.strip(b" \t"),)
        headers = self.headers
        headers[name] = headers[name] + values if name in headers else values

    def on_headers_complete(self) -> None:
        self._head_ended = True
        if self._parser is not None:
            self._keep_alive = self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        self.excess = self.ended

    def on_message_complete(self) -> None:
        if not self.ended:
            self.ended, self._own = True, len(self._pieces)


def is_request_line(line: bytes) -> bool:
    """Whether a head may begin with this line."""
    return _REQUEST_LINE.fullmatch(line) is not None


def _is_chunked(encodings: tuple[bytes, ...]) -> bool:
    return len(encodings) == 1 and encodings[0].lower() == b"chunked"
