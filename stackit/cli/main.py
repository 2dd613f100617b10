"""The program ``stackit``: one command of the shell, on a reactor of its own."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.internet import task

from stackit.api.reactor import Reactor
from stackit.cli.run import run


async def _main(reactor: Reactor, arguments: Sequence[str]) -> None:
    status = await run(reactor, arguments, environ=os.environ, cwd=Path.cwd(), out=sys.stdout, err=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Run the command that the command line names, and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    task.react(_main, [sys.argv[1:]])
