"""The versions of git that will do."""

from __future__ import annotations

import re
import subprocess

OLDEST = (2, 31)
"""The first git whose fetch has --atomic."""

_VERSION = re.compile(rb"git version ((\d+)\.(\d+)\S*)")


def version_problem(program: str) -> str | None:
    """Return the reason why the git at this path will not do, or None. Blocks for some milliseconds."""
    done = subprocess.run([program, "version"], env={"LC_ALL": "C"}, capture_output=True, check=False)
    found = _VERSION.match(done.stdout)
    if found is None:
        return f"{program} does not say which version of git it is"
    if (int(found[2]), int(found[3])) < OLDEST:
        return f"git {found[1].decode('ascii', 'replace')} is too old: stackit needs {OLDEST[0]}.{OLDEST[1]} or newer"
    return None
