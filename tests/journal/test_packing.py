"""Bodies that are packed together: neighbours, and no more bytes than are read for one of them."""

from __future__ import annotations

import random

from stackit.journal.packing import BUNDLE_BYTES, bundles, packed, unpacked


def test_what_is_packed_comes_back() -> None:
    for body in (b"", b"\0" * 100_000, random.Random(1).randbytes(100_000)):
        assert unpacked(packed(body)) == body


def test_neighbours_are_together_up_to_so_many_bytes() -> None:
    half = BUNDLE_BYTES // 2
    sizes = {"a": half, "b": half, "c": 2, "d": BUNDLE_BYTES - 2, "e": 0, "f": 3 * BUNDLE_BYTES, "g": 1}
    found = list(bundles((name, bytes(size)) for name, size in sizes.items()))
    assert ["".join(name for name, _ in each) for each in found] == ["ab", "cde", "f", "g"]
    assert {name: len(body) for each in found for name, body in each} == sizes


def test_nothing_makes_no_bundle() -> None:
    assert list(bundles([])) == []
