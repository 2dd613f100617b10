"""The unpacked size of a pack, computed from the pack alone."""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_harness import Upstream, versions

from stackit.plugins.mirror.repository import packs
from stackit.plugins.mirror.repository.packs import is_small_unpacked

MIB = 2**20


def entry(kind: int, size: int, base: bytes, data: bytes) -> bytes:
    """An object in a pack."""
    first, rest = (size & 15) | kind << 4, size >> 4
    head = bytearray()
    while rest:
        head.append(first | 0x80)
        first, rest = rest & 0x7F, rest >> 7
    return bytes([*head, first]) + base + zlib.compress(data)


def number(value: int) -> bytes:
    said = bytearray()
    while value >= 0x80:
        said.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*said, value])


def pack(*entries: bytes) -> bytes:
    body = b"PACK" + (2).to_bytes(4) + len(entries).to_bytes(4) + b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def delta(result: int, id_size: int = 20) -> bytes:
    said = number(12 * MIB) + number(result) + b"\x90\x01"
    return entry(7, len(said), b"\1" * id_size, said)


@pytest.mark.parametrize(
    ("entries", "small"),
    [
        ([], True),
        ([entry(3, 5, b"", b"hello")] * 3, True),
        ([entry(3, packs.MOST_READ, b"", bytes(packs.MOST_READ))], True),
        ([entry(3, packs.MOST_READ + 1, b"", bytes(packs.MOST_READ + 1))], False),
        ([delta(1000)] * 100, True),
        ([delta(packs.MOST_UNPACKED)], True),
        ([delta(packs.MOST_UNPACKED // 2 + 1)] * 2, False),
        ([delta(2**40)], False),
        ([entry(6, 5, b"\x81\x02", number(9) + number(9) + b"\x90\x09\0")], True),
    ],
)
def test_the_size_that_a_pack_has_unpacked_is_told_from_the_pack(entries: list[bytes], small: bool) -> None:
    assert is_small_unpacked(pack(*entries), 20) is small


def test_deltas_of_sha256_repositories_are_understood() -> None:
    assert is_small_unpacked(pack(delta(1000, 32)), 32)
    assert not is_small_unpacked(pack(delta(12 * MIB, 32)), 32)


@pytest.mark.parametrize(
    "broken",
    [
        pack(entry(3, 5, b"", b"hello"))[:14],
        pack(entry(3, 5, b"", b"much more than five bytes")),
        pack(entry(3, 50, b"", b"hello")),
        b"PACK" + (2).to_bytes(4) + (9).to_bytes(4) + bytes(20),
        pack(entry(3, 5, b"", b"hello")).replace(b"\x78\x9c", b"\xff\xff"),
        pack(entry(3, 10, b"", bytes(64 * MIB))),
    ],
)
def test_a_pack_that_is_broken_is_not_taken_for_a_small_one(broken: bytes) -> None:
    assert not is_small_unpacked(broken, 20)


@pytest.mark.parametrize(("large", "small"), [(False, True), (True, False)])
def test_a_thin_pack_as_git_makes_it_is_understood(tmp_path: Path, large: bool, small: bool) -> None:
    upstream = Upstream(tmp_path / "remote.git")
    made = versions(upstream.directory, 2 * MIB if large else 1000, 8)
    argv = ["/usr/bin/git", "-C", str(upstream.directory), "pack-objects", "--revs", "--thin", "--stdout", "-q"]
    done = subprocess.run(argv, input=f"{made[-1]}\n^{made[0]}\n".encode(), capture_output=True, check=True)
    assert len(done.stdout) < 10_000
    assert is_small_unpacked(done.stdout, 20) is small


# -- any bytes ----------------------------------------------------------------------------


HEADERS = st.integers(0, 300).map(lambda count: b"PACK" + (2).to_bytes(4) + count.to_bytes(4))
ENTRIES = st.builds(
    entry,
    st.integers(0, 7),
    st.integers(0, 2**70),
    st.binary(max_size=40),
    st.binary(max_size=40),
)


@given(st.binary() | st.builds(lambda head, rest: head + rest, HEADERS, st.binary()), st.sampled_from([20, 32]))
def test_any_bytes_are_a_small_pack_or_not(data: bytes, id_size: int) -> None:
    assert is_small_unpacked(data, id_size) in (True, False)


@given(st.lists(ENTRIES, max_size=5))
def test_any_objects_are_a_small_pack_or_not(entries: list[bytes]) -> None:
    assert is_small_unpacked(pack(*entries), 20) in (True, False)


@given(st.lists(st.binary(max_size=2000)))
def test_objects_that_are_small_together_are_a_small_pack(objects: list[bytes]) -> None:
    assert is_small_unpacked(pack(*(entry(3, len(each), b"", each) for each in objects)), 20)


@given(st.lists(st.integers(0, 2 * packs.MOST_UNPACKED), max_size=4))
def test_deltas_count_by_the_size_of_their_results(results: list[int]) -> None:
    assert is_small_unpacked(pack(*map(delta, results)), 20) == (sum(results) <= packs.MOST_UNPACKED)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.data())
def test_a_pack_that_is_cut_is_not_taken_for_a_small_one(objects: list[bytes], data: st.DataObject) -> None:
    whole = pack(*(entry(3, len(each), b"", each) for each in objects))
    cut = data.draw(st.integers(0, len(whole) - 20 - 7))  # inside the last object, before its data has ended
    assert cut < 12 or not is_small_unpacked(whole[:cut], 20)


def test_a_size_of_a_million_digits_is_broken_and_takes_no_time() -> None:
    """Each digit makes the number longer that the next one is added to: it would take minutes."""
    digits = b"\xff" * (packs.MOST_READ - 1)
    assert not is_small_unpacked(pack(b"\xb0" + digits), 20)
    assert not is_small_unpacked(pack(entry(7, len(digits), bytes(20), digits)), 20)
