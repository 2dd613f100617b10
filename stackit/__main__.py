"""``python -m stackit`` and the program ``stackit``: the first lines that run, before anything else is imported."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # The current directory, which Python searches first. A treq.py in it is not treq.
    del sys.path[0]

import os
import signal
from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command that the command line names, and exit with its status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored in the background
        signal.signal(signal.SIGINT, _end)
    from stackit.cli import main as program  # noqa: PLC0415 - it takes a while, in which Ctrl-C must be silent

    program.main()


def _end(_signal: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
