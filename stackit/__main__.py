"""``python -m stackit``: the shell commands of stackit.cli.commands on a reactor of their own."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from pathlib import Path

from twisted.internet import task

from stackit.api.reactor import Reactor
from stackit.cli.commands import parse, run


async def _main(reactor: Reactor, options: Namespace) -> None:
    status = await run(reactor, options, environ=os.environ, cwd=Path.cwd(), out=sys.stdout, err=sys.stderr)
    raise SystemExit(status)


def main() -> None:
    """Run the command that the command line names, and exit with its status."""
    options = parse(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    task.react(_main, [options])


if __name__ == "__main__":
    main()
