"""git's protocol v2 on the wire: what a request says, and what an answer holds.

Sources: git's gitprotocol-common, gitprotocol-v2 and gitprotocol-pack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from stackit.plugins.mirror.refs.listing import Listing

SERVICE = "git-upload-pack"
ADVERTISEMENT_TYPE = f"application/x-{SERVICE}-advertisement"
"""The content type of the answer to ``/info/refs`` of a server that speaks git's protocol."""
RESULT_TYPE = f"application/x-{SERVICE}-result"
"""The content type of the answer to a request of protocol v2."""
FLUSH = b"0000"
DELIMITER = b"0001"

_DATA, _PROGRESS = 1, 2
_SYMREF = b"symref-target:"
_OBJECT_ID = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")


class ProtocolError(Exception):
    """The answer is not what the protocol has; the text says what was odd."""


class RefusedError(ProtocolError):
    """The remote says that it will not, and why; for instance because it has no such commit (yet)."""


def pkt_line(payload: bytes) -> bytes:
    """One pkt-line."""
    return b"%04x" % (len(payload) + 4) + payload


def ls_refs_request(prefixes: Iterable[bytes], object_format: str = "sha1") -> bytes:
    """Ask for the refs that begin with any of the prefixes; ``HEAD`` comes with the branch that it names."""
    asked = [pkt_line(b"symrefs\n"), *(pkt_line(b"ref-prefix %b\n" % prefix) for prefix in prefixes)]
    return _command(b"ls-refs", object_format, asked)


def fetch_request(wants: Sequence[str], haves: Sequence[str], object_format: str = "sha1") -> bytes:
    """Ask for a pack with ``wants`` and all they need, beyond what is reachable from ``haves``.

    ``done`` ends the negotiation before it begins: one request, one answer.
    """
    said = [b"thin-pack\n", b"ofs-delta\n", b"no-progress\n"]
    said += [b"want %b\n" % oid.encode() for oid in wants]
    said += [b"have %b\n" % oid.encode() for oid in haves]
    return _command(b"fetch", object_format, [pkt_line(each) for each in (*said, b"done\n")])


def parse_listing(answer: bytes) -> Listing:
    """The answer to ``ls_refs_request``. Raises ProtocolError."""
    refs: dict[bytes, str] = {}
    head = tip = None
    for packet in parse_pkt_lines(answer):
        if packet is None:
            return Listing(refs, head, tip=tip)
        oid, _, rest = packet.rstrip(b"\n").partition(b" ")
        name, *attributes = rest.split(b" ")
        if name == b"HEAD":
            targets = [
                each.removeprefix(b"symref-target:") for each in attributes if each.startswith(b"symref-target:")
            ]
            head = targets[0] if targets else None
            tip = oid.decode("ascii") if _OBJECT_ID.fullmatch(oid) else None
        elif name and oid != b"unborn":
            # What git takes for an object id may also be a name or an option: nothing else goes any further.
            if not _OBJECT_ID.fullmatch(oid):
                raise ProtocolError(f"not an object id: {oid[:40]!r}")
            refs[name] = oid.decode("ascii")
    raise ProtocolError("the list of refs ends too early")


def speaks_v2(advertised: bytes) -> bool:
    """Whether a server that says this of itself can be asked for refs and packs in protocol v2."""
    try:
        said = [packet.rstrip(b"\n") for packet in parse_pkt_lines(advertised) if packet is not None]
    except ProtocolError:
        return False
    if said[:1] == [b"# service=%b" % SERVICE.encode()]:  # some say it first, as before protocol v2
        said = said[1:]
    commands = {each.partition(b"=")[0] for each in said[1:]}
    return said[:1] == [b"version 2"] and {b"ls-refs", b"fetch"} <= commands


def parse_pack(answer: bytes) -> bytes:
    """Return the pack in the answer to a ``fetch_request``. Raises ProtocolError; RefusedError has the reason."""
    pieces: list[bytes] = []
    inside = False
    for packet in parse_pkt_lines(answer):
        if packet is None:
            if inside:
                return b"".join(pieces)
        elif not inside:
            # Shallow information, or anything else that was not asked for, is not for this road.
            if packet != b"packfile\n":
                raise ProtocolError(f"unexpected section: {packet[:40]!r}")
            inside = True
        elif packet[0] == _DATA:
            pieces.append(packet[1:])
        elif packet[0] != _PROGRESS:
            raise ProtocolError(f"the remote gave up: {packet[1:200]!r}")
    raise ProtocolError("the pack ends too early")


def object_count(pack_: bytes) -> int:
    """How many objects a pack says it has. Raises ProtocolError for what is no pack."""
    if len(pack_) < 32 or pack_[:4] != b"PACK":
        raise ProtocolError("not a pack")
    return int.from_bytes(pack_[8:12])


def parse_pkt_lines(answer: bytes) -> Iterator[bytes | None]:
    """Each payload, and None for a packet that only separates. Raises ProtocolError."""
    at = 0
    while at < len(answer):
        try:
            length = int(answer[at : at + 4], 16)
        except ValueError:
            raise ProtocolError("not a pkt-line") from None
        if length < 4:
            at += 4
            yield None
            continue
        payload = answer[at + 4 : at + length]
        if len(payload) != length - 4 or not payload:
            raise ProtocolError("the answer ends inside a pkt-line")
        if payload.startswith(b"ERR "):
            raise RefusedError(f"the remote refuses: {payload[4:200]!r}")
        at += length
        yield payload


def _command(name: bytes, object_format: str, arguments: Iterable[bytes]) -> bytes:
    capabilities = [b"command=%b\n" % name, b"agent=stackit\n", b"object-format=%b\n" % object_format.encode()]
    return b"".join([*map(pkt_line, capabilities), DELIMITER, *arguments, FLUSH])
