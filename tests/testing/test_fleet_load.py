"""What judges a fleet finds what is lost, out of order, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from fleet_load import Load, Sent

Line = tuple[str, float, int, int]
"""What a handler noted: what, when, in which process, and of which delivery."""

WELL: Sequence[Line] = [("start", 1.0, 7, 0), ("end", 2.0, 7, 0), ("start", 3.0, 8, 1), ("end", 4.0, 8, 1)]


def judged(directory: Path, lines: Sequence[Line]) -> Load:
    """Return a load of two deliveries of one repository, of which these lines were noted."""
    load = Load(directory)
    load.sent = [Sent("octo/widget", number, f"guid-{number}", 0.5, 0.6) for number in (0, 1)]
    with (directory / "notes").open("wb") as notes:
        for what, at, pid, number in lines:
            line = {"what": what, "at": at, "pid": pid, "guid": f"guid-{number}", "repo": "octo/widget"}
            notes.write(msgspec.json.encode(line) + b"\n")
    return load


def test_what_went_well_is_well(tmp_path: Path) -> None:
    load = judged(tmp_path, WELL)
    load.check()
    assert load.twice() == set()
    assert load.slowest() == pytest.approx(3.4)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (WELL[:3], "lost: .*guid-1"),
        ([*WELL[:3], ("failed", 4.0, 8, 1)], "lost: .*guid-1"),
        ([WELL[2], WELL[3], ("start", 5.0, 7, 0), ("end", 6.0, 7, 0)], "out of order: .*guid-1 began at 3.000"),
        ([WELL[0], ("start", 1.5, 8, 0), ("end", 1.7, 8, 0), *WELL[1:]], "side by side: .*guid-0 in 8 at 1.500"),
        ([*WELL[:3], ("start", 3.5, 9, 1), ("end", 4.5, 9, 1), WELL[3]], "side by side: .*guid-1 in 9 at 3.500"),
    ],
)
def test_what_went_wrong_is_found(tmp_path: Path, lines: Sequence[Line], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        judged(tmp_path, lines).check()


def test_what_ran_in_a_process_that_was_killed_ended_with_it(tmp_path: Path) -> None:
    lines = [WELL[0], ("start", 1.5, 8, 0), ("end", 1.7, 8, 0), *WELL[2:]]
    load = judged(tmp_path, lines)
    assert load.overlaps() != []
    load._stops[7].append(1.2)
    load.check()


def test_what_ran_in_a_process_that_stood_still_may_be_begun_by_another(tmp_path: Path) -> None:
    load = judged(tmp_path, [WELL[0], ("start", 1.5, 8, 0), ("end", 1.7, 8, 0), *WELL[1:]])
    for pid, at in ((8, 1.2), (7, 0.8), (7, 1.6)):  # another, before it, and too late
        (tmp_path / "notes.stood").write_text(f'{{"pid": {pid}, "at": {at}}}\n')
        assert load.overlaps() != []
    (tmp_path / "notes.stood").write_text('{"pid": 7, "at": 1.2}\n{"pid": 7')
    load.check()


def test_what_ended_twice_is_told(tmp_path: Path) -> None:
    load = judged(tmp_path, [*WELL, ("start", 5.0, 9, 1), ("end", 6.0, 9, 1)])
    load.check()
    assert load.twice() == {"guid-1"}
