"""pkt-lines, and the answers of protocol v2 that are made of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.remote.protocol_v2 import (
    DELIMITER,
    FLUSH,
    LONGEST_PKT_LINE,
    Marker,
    ProtocolError,
    RefusedError,
    object_count,
    parse_listing,
    parse_pack,
    parse_pkt_lines,
    pkt_line,
    speaks_v2,
)

Parse = Callable[[bytes], Any]

RESPONSE_END = b"0002"
MARKERS = {Marker.FLUSH: FLUSH, Marker.DELIMITER: DELIMITER, Marker.RESPONSE_END: RESPONSE_END}

PAYLOADS = st.binary(min_size=1, max_size=200).filter(lambda payload: not payload.startswith(b"ERR "))
PACKETS = st.lists(PAYLOADS | st.sampled_from(Marker))
OIDS = st.sampled_from(["0123456789abcdef01234567" + "89abcdef" * 2, "89abcdef" * 8])
REFS = st.binary(min_size=1, max_size=20).map(lambda name: b"refs/heads/" + name.translate(None, b" \n"))


def all_packets(answer: bytes) -> list[bytes | Marker]:
    return list(parse_pkt_lines(answer))


def written(packet: bytes | Marker) -> bytes:
    return MARKERS[packet] if isinstance(packet, Marker) else pkt_line(packet)


@given(PACKETS)
def test_what_is_written_is_read_back(packets: list[bytes | Marker]) -> None:
    assert all_packets(b"".join(map(written, packets))) == packets


@given(PACKETS, st.data())
def test_an_answer_that_is_cut_gives_the_packets_before_the_cut_and_no_part_of_one(
    packets: list[bytes | Marker], data: st.DataObject
) -> None:
    answer = b"".join(map(written, packets))
    cut = data.draw(st.integers(0, len(answer)))
    read: list[bytes | Marker] = []
    cut_inside = False
    try:
        for packet in parse_pkt_lines(answer[:cut]):
            read.append(packet)  # noqa: PERF402 - the packets before an error count as well
    except ProtocolError:
        cut_inside = True
    assert read == packets[: len(read)]
    assert cut_inside == (sum(len(written(each)) for each in read) < cut)


@pytest.mark.parametrize("length", [1, LONGEST_PKT_LINE - 4])
def test_the_shortest_and_the_longest_payload_are_read_back(length: int) -> None:
    assert all_packets(pkt_line(b"x" * length)) == [b"x" * length]


def test_a_payload_that_fits_no_pkt_line_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        pkt_line(b"x" * (LONGEST_PKT_LINE - 3))


@pytest.mark.parametrize(
    "digits", [b"0_0a", b"+00a", b" 1f ", b"-001", b"-000", b"0x0a", b"00 a", b"000g", b"00\n0", b"\xd9\xa0" * 2]
)
def test_a_length_is_four_hexadecimal_digits(digits: bytes) -> None:
    with pytest.raises(ProtocolError, match="not the length"):
        all_packets(digits + b"x" * 40)


@pytest.mark.parametrize("digits", [b"0", b"00", b"000"])
def test_a_length_that_is_cut_is_an_error(digits: bytes) -> None:
    with pytest.raises(ProtocolError, match="not the length"):
        all_packets(digits)


@pytest.mark.parametrize("digits", [b"0003", b"0004", b"fff1", b"ffff"])
def test_a_length_that_no_pkt_line_has_is_an_error(digits: bytes) -> None:
    with pytest.raises(ProtocolError, match="has this length"):
        all_packets(digits + b"x" * 70_000)


def test_the_digits_of_a_length_may_be_capitals() -> None:
    assert all_packets(b"000E" + b"x" * 10) == [b"x" * 10]


# pytest-twisted cannot run a test that has both ``given`` and ``parametrize``.
@given(st.sampled_from([all_packets, parse_listing, parse_pack, object_count]), st.binary())
def test_any_bytes_are_an_answer_or_a_protocol_error(parse: Parse, answer: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse(answer)


@given(st.sampled_from([parse_listing, parse_pack]), st.lists(st.binary(min_size=1, max_size=80)))
def test_any_payloads_are_an_answer_or_a_protocol_error(parse: Parse, payloads: list[bytes]) -> None:
    with contextlib.suppress(ProtocolError):
        parse(b"".join(map(pkt_line, payloads)) + FLUSH)


@given(st.binary() | st.lists(st.binary(min_size=1, max_size=80)).map(lambda each: b"".join(map(pkt_line, each))))
def test_any_bytes_are_an_advertisement_that_offers_protocol_v2_or_not(advertisement: bytes) -> None:
    assert speaks_v2(advertisement) in (True, False)


@given(st.dictionaries(REFS, OIDS, max_size=5), st.data())
def test_a_list_of_refs_is_read_whole_or_not_at_all(refs: dict[bytes, str], data: st.DataObject) -> None:
    answer = b"".join(pkt_line(b"%b %b\n" % (oid.encode(), ref)) for ref, oid in refs.items()) + FLUSH
    assert parse_listing(answer) == Listing(refs, None)
    with pytest.raises(ProtocolError):
        parse_listing(answer[: data.draw(st.integers(0, len(answer) - 1))])


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1), st.data())
def test_a_pack_is_read_whole_or_not_at_all(pieces: list[bytes], data: st.DataObject) -> None:
    answer = pkt_line(b"packfile\n") + b"".join(pkt_line(b"\1" + piece) for piece in pieces) + FLUSH
    assert parse_pack(answer) == b"".join(pieces)
    with pytest.raises(ProtocolError):
        parse_pack(answer[: data.draw(st.integers(0, len(answer) - 1))])


@pytest.mark.parametrize("marker", [DELIMITER, RESPONSE_END])
def test_only_a_flush_ends_a_list_or_a_pack(marker: bytes) -> None:
    with pytest.raises(ProtocolError, match="in the list"):
        parse_listing(marker)
    with pytest.raises(ProtocolError, match="in the pack"):
        parse_pack(pkt_line(b"packfile\n") + pkt_line(b"\1PACK") + marker)


@pytest.mark.parametrize("parse", [parse_listing, parse_pack])
def test_a_refusal_has_the_remotes_reason(parse: Parse) -> None:
    with pytest.raises(RefusedError, match="not our ref"):
        parse(pkt_line(b"ERR upload-pack: not our ref"))


@pytest.mark.parametrize(
    ("said", "speaks"),
    [
        ((b"version 2\n", b"agent=git/2\n", b"ls-refs=unborn\n", b"fetch=shallow\n"), True),
        ((b"# service=git-upload-pack\n", None, b"version 2\n", b"ls-refs\n", b"fetch\n"), True),
        ((b"version 2\n", b"ls-refs\n"), False),
        ((b"version 1\n", b"1" * 40 + b" HEAD\0thin-pack\n"), False),
        ((b"# service=git-upload-pack\n", None, b"1" * 40 + b" HEAD\0 ls-refs fetch\n"), False),
        ((b"ERR busy\n",), False),
        ((), False),
    ],
)
def test_what_a_server_says_of_itself_tells_what_it_speaks(said: tuple[bytes | None, ...], speaks: bool) -> None:
    assert speaks_v2(b"".join(FLUSH if each is None else pkt_line(each) for each in said) + FLUSH) == speaks
    assert not speaks_v2(b"<html>")
