"""A release: ``python tools/release.py 0.2.0 [--dry-run]``, in a checkout; ``make release`` calls it.

It takes the section of the version in CHANGELOG.md, writes the version into pyproject.toml and the date into the
changelog, has ``make dist`` build, install and try wheel and source distribution, commits and tags. Nothing leaves the
machine. Whatever fails, and a dry run, leave both files as they were.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
FILES = ("pyproject.toml", "CHANGELOG.md")


class Refused(Exception):
    """A reason why there is no release."""


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S607 - as a person would
    if done.returncode:
        raise Refused(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def check(version: str) -> None:
    """Raise `Refused` unless the checkout can become this version."""
    if VERSION.fullmatch(version) is None:
        raise Refused(f"{version!r} is no version: say VERSION=1.2.3, or 1.2.3rc1")
    if git("status", "--porcelain"):
        raise Refused("there are changes that are not committed: git status shows them")
    if git("tag", "--list", f"v{version}"):
        raise Refused(f"the tag v{version} is there already")
    if git("branch", "--show-current") != "main":
        raise Refused("a release is made on the branch main")


def notes(changelog: str, version: str) -> str:
    """Return what the changelog says of a version, which is its newest section."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    title, _, text = sections[0].partition("\n") if sections else ("", "", "")
    if title != f"{version} (unreleased)":
        raise Refused(f'the newest section of CHANGELOG.md must be "## {version} (unreleased)", and is "## {title}"')
    if not text.strip():
        raise Refused(f"CHANGELOG.md says nothing of {version}")
    return text.strip()


def with_version(project: str, version: str) -> str:
    """Return the text of pyproject.toml with the version, which stands there and nowhere else."""
    changed, count = re.subn(r'^version = ".*"$', f'version = "{version}"', project, flags=re.MULTILINE)
    if count != 1 or tomllib.loads(changed)["project"]["version"] != version:
        raise Refused("pyproject.toml must have one line: version = …, in [project]")
    return changed


@contextmanager
def put_back(files: tuple[str, ...]) -> Iterator[None]:
    """Restore files after a failure, and after an interrupt."""
    before = {file: Path(file).read_text("utf-8") for file in files}
    try:
        yield
    except BaseException:
        for file, text in before.items():
            Path(file).write_text(text, "utf-8")
        raise


class DryRun(Exception):
    """The end of a dry run: nothing of it stays."""


def release(version: str, *, dry_run: bool) -> None:
    """Make a release of what is checked out."""
    check(version)
    changelog = Path("CHANGELOG.md").read_text("utf-8")
    text = notes(changelog, version)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    with put_back(FILES):
        project = Path("pyproject.toml")
        project.write_text(with_version(project.read_text("utf-8"), version), "utf-8")
        dated = changelog.replace(f"## {version} (unreleased)", f"## {version} ({today})", 1)
        Path("CHANGELOG.md").write_text(dated, "utf-8")
        if subprocess.run(["make", "--no-print-directory", "dist"], check=False).returncode:  # noqa: S607 - as a person would
            raise Refused("make dist failed, and says why above")
        built = sorted(each.name for each in Path("dist").iterdir() if f"-{version}" in each.name)
        if len(built) != 2:
            raise Refused(f"make dist should have built a wheel and a source distribution of {version}: {built}")
        if dry_run:
            raise DryRun
        git("add", *FILES)
        git("commit", "--message", f"Release {version}")
        git("tag", "--annotate", f"v{version}", "--cleanup=verbatim", "--message", f"stackit {version}\n\n{text}")
    print(f"Released {version}: dist/{built[0]}, dist/{built[1]}, and the tag v{version}. To publish it:")
    print(f"  git push origin main v{version}")
    print("  twine upload " + " ".join(f"dist/{each}" for each in built))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make a release of stackit.")
    parser.add_argument("version")
    parser.add_argument("--dry-run", action="store_true", help="check, build and try; commit and tag nothing")
    given = parser.parse_args(arguments)
    try:
        release(given.version, dry_run=given.dry_run)
    except Refused as refused:
        print(f"no release: {refused}", file=sys.stderr)
        return 1
    except DryRun:
        print(f"All is well: make release VERSION={given.version} would commit, and tag v{given.version}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
