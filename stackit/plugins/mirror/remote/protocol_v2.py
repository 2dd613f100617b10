"""Requests and answers of git's protocol v2, as pkt-lines.

Sources: git's gitprotocol-common, gitprotocol-v2 and gitprotocol-pack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from stackit.plugins.mirror.refs.listing import Listing

SERVICE = "git-upload-pack"
ADVERTISEMENT_TYPE = f"application/x-{SERVICE}-advertisement"
"""The content type of the answer to ``/info/refs`` of a server that speaks git's protocol."""
RESULT_TYPE = f"application/x-{SERVICE}-result"
"""The content type of the answer to a request of protocol v2."""
FLUSH = b"0000"
DELIMITER = b"0001"
LONGEST_PKT_LINE = 65520
"""Bytes of a pkt-line with its four digits (gitprotocol-common)."""

# The first byte of a pkt-line in the section of the pack (gitprotocol-v2, "packfile").
_PACK_DATA, _PROGRESS = 1, 2
_SYMREF = b"symref-target:"
_OBJECT_ID = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")
_LENGTH = re.compile(rb"[0-9A-Fa-f]{4}")


class ProtocolError(Exception):
    """An answer breaks the protocol; the text says where."""


class RefusedError(ProtocolError):
    """The remote refused the request, for instance for a commit that it does not have yet; the text has its reason."""


class Marker(Enum):
    """A packet without payload; the value is its length field."""

    FLUSH = 0
    DELIMITER = 1
    RESPONSE_END = 2


def pkt_line(payload: bytes) -> bytes:
    """Return the payload as one pkt-line. Raises ValueError if it is too long for one."""
    length = len(payload) + 4
    if length > LONGEST_PKT_LINE:
        raise ValueError(f"{len(payload)} bytes are too many for a pkt-line")
    return b"%04x" % length + payload


def parse_pkt_lines(answer: bytes) -> Iterator[bytes | Marker]:
    """Yield the payload of each pkt-line, never empty, or a marker.

    Raises ProtocolError; a pkt-line that the remote sends in place of an answer, ``ERR`` and a reason, raises
    RefusedError.
    """
    at = 0
    while at < len(answer):
        found = _LENGTH.match(answer, at)
        if found is None:  # int() alone would also take a sign, an underscore or a space
            raise ProtocolError(f"not the length of a pkt-line: {answer[at : at + 4]!r}")
        length = int(found[0], 16)
        if length <= Marker.RESPONSE_END.value:
            at += 4
            yield Marker(length)
            continue
        if not 4 < length <= LONGEST_PKT_LINE:
            raise ProtocolError(f"no pkt-line has this length: {found[0]!r}")
        payload = answer[at + 4 : at + length]
        if len(payload) != length - 4:
            raise ProtocolError("the answer ends inside a pkt-line")
        if payload.startswith(b"ERR "):
            raise RefusedError(f"the remote refuses: {payload[4:200]!r}")
        at += length
        yield payload


def speaks_v2(advertisement: bytes) -> bool:
    """Return True if a server's advertisement offers lists of refs and packs by protocol v2."""
    try:
        lines = [packet.rstrip(b"\n") for packet in parse_pkt_lines(advertisement) if isinstance(packet, bytes)]
    except ProtocolError:
        return False
    if lines[:1] == [b"# service=%b" % SERVICE.encode()]:  # the line of older protocols, which some servers send first
        lines = lines[1:]
    commands = {each.partition(b"=")[0] for each in lines[1:]}
    return lines[:1] == [b"version 2"] and {b"ls-refs", b"fetch"} <= commands


def ls_refs_request(prefixes: Iterable[bytes], object_format: str = "sha1") -> bytes:
    """Return a request for the refs that begin with any of the prefixes, and for the targets of symbolic refs."""
    arguments = [pkt_line(b"symrefs\n"), *(pkt_line(b"ref-prefix %b\n" % prefix) for prefix in prefixes)]
    return _command(b"ls-refs", object_format, arguments)


def parse_listing(answer: bytes) -> Listing:
    """Parse the answer to an ``ls_refs_request``. Raises ProtocolError."""
    refs: dict[bytes, str] = {}
    head = tip = None
    for packet in parse_pkt_lines(answer):
        if packet is Marker.FLUSH:
            return Listing(refs, head, tip=tip)
        if isinstance(packet, Marker):
            raise ProtocolError(f"a {packet.name.lower()} in the list of refs")
        oid, _, rest = packet.rstrip(b"\n").partition(b" ")
        name, *attributes = rest.split(b" ")
        if name == b"HEAD":
            targets = [each.removeprefix(_SYMREF) for each in attributes if each.startswith(_SYMREF)]
            head = targets[0] if targets else None
            tip = oid.decode("ascii") if _OBJECT_ID.fullmatch(oid) else None
        elif name and oid != b"unborn":
            # git would also take the name of a ref, or an option, where an object id belongs.
            if not _OBJECT_ID.fullmatch(oid):
                raise ProtocolError(f"not an object id: {oid[:40]!r}")
            refs[name] = oid.decode("ascii")
    raise ProtocolError("the list of refs ends too early")


def fetch_request(wants: Sequence[str], haves: Sequence[str], object_format: str = "sha1") -> bytes:
    """Return a request for a pack of ``wants`` and all they need that is not reachable from ``haves`` (object ids).

    It ends with ``done``, so there is no negotiation: one request, one answer.
    """
    arguments = [b"thin-pack\n", b"ofs-delta\n", b"no-progress\n"]
    arguments += [b"want %b\n" % oid.encode() for oid in wants]
    arguments += [b"have %b\n" % oid.encode() for oid in haves]
    return _command(b"fetch", object_format, [pkt_line(each) for each in (*arguments, b"done\n")])


def parse_pack(answer: bytes) -> bytes:
    """Return the pack in the answer to a ``fetch_request``. Raises ProtocolError."""
    pieces: list[bytes] = []
    inside = False
    for packet in parse_pkt_lines(answer):
        if isinstance(packet, Marker):
            if not inside:
                continue
            if packet is Marker.FLUSH:
                return b"".join(pieces)
            raise ProtocolError(f"a {packet.name.lower()} in the pack")
        if not inside:
            # Sections that were not asked for, such as shallow information, are not read here.
            if packet != b"packfile\n":
                raise ProtocolError(f"unexpected section: {packet[:40]!r}")
            inside = True
        elif packet[0] == _PACK_DATA:
            pieces.append(packet[1:])
        elif packet[0] != _PROGRESS:
            raise ProtocolError(f"the remote gave up: {packet[1:200]!r}")
    raise ProtocolError("the pack ends too early")


def object_count(pack: bytes) -> int:
    """Return the number of objects that the header of a pack names. Raises ProtocolError if it is not a pack."""
    if len(pack) < 32 or pack[:4] != b"PACK":
        raise ProtocolError("not a pack")
    return int.from_bytes(pack[8:12])


def _command(name: bytes, object_format: str, arguments: Iterable[bytes]) -> bytes:
    capabilities = [b"command=%b\n" % name, b"agent=stackit\n", b"object-format=%b\n" % object_format.encode()]
    return b"".join([*map(pkt_line, capabilities), DELIMITER, *arguments, FLUSH])
