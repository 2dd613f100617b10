"""The names of repositories, for every name that a forge may have: no two share a directory, and none is in another."""

from __future__ import annotations

import string
from pathlib import PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stackit import Repo

LETTERS = string.ascii_letters + string.digits
WORDS = st.text(LETTERS + "._-", min_size=1, max_size=20).filter(lambda word: word not in (".", ".."))
LABELS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
HOSTS = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(LABELS, min_size=2, max_size=4),
    st.just("") | st.integers(1, 65535).map(lambda port: f":{port}"),
)
ON_GITHUB = st.builds(Repo, st.text(LETTERS + "_-", min_size=1, max_size=20), WORDS)
ELSEWHERE = st.builds(
    lambda host, owners, name: Repo("/".join(owners), name, host),
    HOSTS,
    st.lists(WORDS, min_size=1, max_size=5),
    WORDS,
)
REPOS = ON_GITHUB | ELSEWHERE


@given(REPOS)
def test_a_repository_is_what_its_name_and_its_path_are_parsed_to(repo: Repo) -> None:
    assert Repo.parse(str(repo)) == repo
    assert Repo.parse(repo.path) == repo


@given(ON_GITHUB)
def test_a_name_on_github_is_owner_and_name_and_so_is_its_path(repo: Repo) -> None:
    assert str(repo) == repo.path == f"{repo.owner}/{repo.name}"


@given(REPOS, REPOS)
def test_two_repositories_have_two_paths_of_which_none_is_in_the_other(one: Repo, other: Repo) -> None:
    assume(one != other)
    mirrors = [PurePosixPath("mirrors", f"{repo.path}.git") for repo in (one, other)]
    assert mirrors[0] != mirrors[1]
    assert mirrors[0] not in mirrors[1].parents
    assert mirrors[1] not in mirrors[0].parents
    assert (one.key == other.key) is (one.path.lower() == other.path.lower())


@given(st.text() | st.text(LETTERS + "./+,:-_"))
def test_a_text_is_a_repository_with_a_safe_path_or_a_value_error(text: str) -> None:
    try:
        repo = Repo.parse(text)
    except ValueError:
        return
    path = PurePosixPath(repo.path)
    assert len(path.parts) == 2
    assert not path.is_absolute()
    assert {".", ".."}.isdisjoint(path.parts)
    assert all(len(part) < 255 - len(".git") for part in path.parts)
    assert text.lower() in (str(repo).lower(), repo.path.lower())


@pytest.mark.parametrize(
    "name",
    [
        "git.example.org/group/widget",
        "git.example.org/group/sub.group/x/widget.js",
        "localhost:3000/group/widget",
        "git.example.org:8443/a/b/c",
    ],
)
def test_a_name_with_a_host_comes_back_as_it_was(name: str) -> None:
    assert str(Repo.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "git.example.org/widget",
        "group/sub/widget",
        "localhost/group/widget",
        "git.example.org//widget",
        "/octo/widget",
        "//widget",
        "+octo/widget",
        "+/widget",
        "octo//widget",
        "octo/widget/",
        "git.example.org/../widget",
        "git.example.org/group/..",
        "git.example.org/group/wid get",
        "git.example.org:x/group/widget",
        "git_example.org/group/widget",
        ".example.org/group/widget",
        "git.example.org+group/sub/widget",
        "octo+sub/widget",
        "git.example.org/" + "x" * 90 + "/" + "y" * 90 + "/" + "z" * 90 + "/widget",
        "git.example.org" + "/x" * 1000,
    ],
)
def test_a_name_that_could_do_harm_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a repository name"):
        Repo.parse(name)


def test_the_host_is_told_in_small_letters() -> None:
    assert Repo.parse("Git.Example.ORG/Group/Widget") == Repo("Group", "Widget", "git.example.org")
