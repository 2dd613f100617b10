"""Files that a killed git left in a mirror."""

from __future__ import annotations

from pathlib import Path

from stackit.plugins.mirror.repository.leftovers import remove_leftovers


def test_leftovers_are_quarantines_and_the_marks_of_a_fetch_too_but_nobody_elses(tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    (objects / "pack").mkdir(parents=True)
    for name in ("tmp_objdir-stackit-x", "tmp_objdir-incoming-x", "incoming-x"):
        (objects / name / "aa").mkdir(parents=True)
        (objects / name / "aa" / "1").write_text("object")
    (objects / "tmp_obj_x").write_text("")
    (objects / "pack" / "pack-1.keep").write_text("fetch-pack 17 on somewhere")
    (objects / "pack" / "pack-2.keep").write_text("a person wants it so")
    (objects / "pack" / "tmp_pack_x").write_text("")
    assert remove_leftovers(tmp_path) == 6
    assert [each.name for each in objects.rglob("*") if each.is_file()] == ["pack-2.keep"]
