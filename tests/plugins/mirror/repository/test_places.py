"""Which mirrors are on disk, by the names of their repositories."""

from __future__ import annotations

from pathlib import Path

from stackit import ManagedRepo, Repo
from stackit.plugins.mirror.repository.places import ASIDE, Places


def test_a_mirror_aside_is_known_and_so_is_one_of_which_the_disk_does_not_tell(tmp_path: Path) -> None:
    places = Places(tmp_path, lambda repo, line: None)
    places.look()

    def known(realm: str) -> bool:
        repo = Repo.parse("octo/widget")
        return places.is_known(ManagedRepo(repo=repo, url="https://example.com/x.git", id=1, realm=realm))

    assert not known("github")
    (tmp_path / ASIDE / "github+1.git").mkdir(parents=True)
    assert known("github")
    assert known("x" * 300), "the look at such a name is an error of the disk"
