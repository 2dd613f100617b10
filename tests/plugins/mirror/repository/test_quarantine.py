"""New objects apart from the mirror's own: admitted or dropped."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mirror_harness import ENV, Upstream

from stackit.plugins.mirror.repository.quarantine import Quarantine, quarantines


def test_what_is_admitted_is_in_the_mirror_and_what_is_not_is_nowhere(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path / "odd:name" / 'with "quotes".git')
    mirror = upstream.directory
    for admitted in (True, False):
        apart = Quarantine(mirror)
        stored = subprocess.run(
            ["/usr/bin/git", "-C", mirror, "hash-object", "-w", "--stdin"],
            input=b"%d" % admitted,
            env=ENV | apart.environment,
            capture_output=True,
            check=True,
        ).stdout.decode()
        size = apart.size()
        assert size > 0
        if admitted:
            assert apart.admit() == size
        apart.drop()
        assert (mirror / "objects" / stored[:2] / stored[2:].strip()).exists() is admitted
        assert not list(quarantines(mirror))


def test_what_is_there_already_is_left_alone_and_folders_are_joined(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.git"
    for name in ("aa/1", "pack/pack-1.pack", "pack/pack-1.idx"):
        (mirror / "objects" / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / "objects" / name).write_text("old")
    apart = Quarantine(mirror)
    directory = Path(apart.environment["GIT_OBJECT_DIRECTORY"])
    for name in ("aa/1", "aa/2", "bb/3", "pack/pack-1.pack", "pack/pack-1.idx", "pack/pack-2.idx", "pack/pack-2.pack"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("new")
    assert apart.admit() == 7 * 3
    apart.drop()
    found = {
        str(each.relative_to(mirror / "objects")): each.read_text() for each in mirror.rglob("*") if each.is_file()
    }
    old = dict.fromkeys(["aa/1", "pack/pack-1.pack", "pack/pack-1.idx"], "old")
    assert found == old | dict.fromkeys(["aa/2", "bb/3", "pack/pack-2.idx", "pack/pack-2.pack"], "new")
