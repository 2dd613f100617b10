"""Programs for those who work on stackit: a release, and the check of the site."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
CHANGELOG = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- A bell.\n\n## 0.1.0 (2026-01-01)\n\n- A whistle.\n"
PROJECT = '[project]\nname = "small"\nversion = "0.1.0"\n'
DIST = "dist:\n\t@mkdir -p dist && touch dist/small-0.2.0.tar.gz dist/small-0.2.0-py3-none-any.whl\n"


def run(directory: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def release(directory: Path, *arguments: str) -> tuple[int, str]:
    return run(directory, sys.executable, str(TOOLS / "release.py"), *arguments)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project whose ``make dist`` is quick."""
    files = {"pyproject.toml": PROJECT, "CHANGELOG.md": CHANGELOG, "Makefile": DIST, ".gitignore": "dist/\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    run(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    run(tmp_path, "git", "config", "user.name", "octo")
    run(tmp_path, "git", "config", "user.email", "octo@example.org")
    commit(tmp_path)
    return tmp_path


def commit(directory: Path) -> None:
    run(directory, "git", "add", ".")
    status, said = run(directory, "git", "commit", "--quiet", "--message", "A small project")
    assert status == 0, said


def as_committed(directory: Path) -> bool:
    return run(directory, "git", "status", "--porcelain")[1] == "" and run(directory, "git", "tag")[1] == ""


def test_a_release_sets_version_and_date_and_is_a_tagged_commit_with_its_notes(checkout: Path) -> None:
    status, said = release(checkout, "0.2.0")
    assert status == 0, said
    assert "git push origin main v0.2.0" in said
    assert 'version = "0.2.0"' in (checkout / "pyproject.toml").read_text()
    assert "## 0.2.0 (20" in (checkout / "CHANGELOG.md").read_text()
    assert run(checkout, "git", "status", "--porcelain")[1] == ""
    assert run(checkout, "git", "log", "-1", "--format=%s %D")[1] == "Release 0.2.0 HEAD -> main, tag: v0.2.0\n"
    assert "- A bell." in run(checkout, "git", "tag", "--list", "-n9", "v0.2.0")[1]


def test_a_dry_run_builds_and_leaves_everything_as_it_was(checkout: Path) -> None:
    status, said = release(checkout, "0.2.0", "--dry-run")
    assert (status, said) == (0, "All is well: make release VERSION=0.2.0 would commit, and tag v0.2.0.\n")
    assert (checkout / "dist").exists()
    assert as_committed(checkout)


@pytest.mark.parametrize(
    ("version", "file", "text", "reason"),
    [
        ("v2", None, "", "'v2' is no version"),
        ("0.3.0", None, "", 'must be "## 0.3.0 (unreleased)", and is "## 0.2.0 (unreleased)"'),
        ("0.2.0", "CHANGELOG.md", "## 0.2.0 (unreleased)\n\n## 0.1.0\n\n- A whistle.\n", "says nothing of 0.2.0"),
        ("0.2.0", "pyproject.toml", "[project]\nname = 'small'\n", "pyproject.toml must have one line"),
        ("0.2.0", "Makefile", "dist:\n\t@false\n", "make dist failed"),
        ("0.2.0", "Makefile", "dist:\n\t@mkdir -p dist\n", "should have built a wheel and a source distribution"),
    ],
)
def test_a_release_that_cannot_be_says_why_and_changes_nothing(
    checkout: Path, version: str, file: str | None, text: str, reason: str
) -> None:
    if file is not None:
        (checkout / file).write_text(text)
        commit(checkout)
    status, said = release(checkout, version)
    assert status == 1
    assert reason in said
    assert "Traceback" not in said
    assert as_committed(checkout)


def test_nothing_is_released_of_what_is_not_committed_or_not_main_or_released(checkout: Path) -> None:
    (checkout / "new.txt").write_text("new")
    assert "not committed" in release(checkout, "0.2.0")[1]
    (checkout / "new.txt").unlink()
    run(checkout, "git", "switch", "--quiet", "--create", "side")
    assert "on the branch main" in release(checkout, "0.2.0")[1]
    run(checkout, "git", "switch", "--quiet", "main")
    run(checkout, "git", "tag", "v0.2.0")
    assert "v0.2.0 is there already" in release(checkout, "0.2.0")[1]


def check_site(site: Path) -> tuple[int, list[str]]:
    status, said = run(site, sys.executable, str(TOOLS / "check_site.py"), ".")
    return status, sorted(said.splitlines()[:-1])


def test_a_site_with_a_dead_link_or_a_font_of_another_host_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<h1 id="top"></h1><a href="other/#there">x</a><a href="#top">y</a>')
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "index.html"
    other.write_text('<p id="there"><a href="../">x</a><a href="https://example.org/">y</a>')
    assert check_site(tmp_path) == (0, [])
    other.write_text('<a href="../gone/">x</a><a href="../#no">y</a><link href="https://fonts.example.org/a.css">')
    status, said = check_site(tmp_path)
    assert status == 1
    assert said == [
        "index.html: other/#there has no such anchor",
        "other/index.html fetches https://fonts.example.org/a.css",
        "other/index.html: ../#no has no such anchor",
        "other/index.html: ../gone/ is not there",
    ]


def test_a_wheel_has_every_file_of_stackit_that_is_no_module() -> None:
    root = TOOLS.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert settings["include-package-data"] is False
    named = {
        path
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (root / package.replace(".", "/")).glob(pattern)
    }
    files = {each for each in (root / "stackit").rglob("*.*") if each.is_file() and "__pycache__" not in each.parts}
    assert named == {each for each in files if each.suffix not in (".py", ".pyc")}
