"""The start of a program in a session of its own.

Twisted's ``spawnProcess`` can make a session only by fork, which blocks the reactor for as long as copying this
process's page tables takes, or through one more program (``setsid``), which costs as much as git itself does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from stackit.subprocesses.pipes import STANDARD

NOT_FOUND, NOT_RUN = 127, 126
"""The exit status of a shell for a program that is not there, and for one that cannot be run."""

_NEVER_A_PROGRAM = 8
"""MFD_NOEXEC_SEAL, of Linux 6.3: without it, a hardened machine (vm.memfd_noexec) gives no file in memory."""


class NotStarted(Exception):
    """There is no such program, or it cannot be run; ``status`` is the exit status of a shell then, 127 or 126."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def spawn(argv: Sequence[str | bytes], env: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """Start a program, found in the ``PATH`` of ``env``; return its process id, which is also that of its group.

    ``descriptors`` maps each number that the program has open to the descriptor of this process that it gets there;
    the latter are above all of the former. Raises NotStarted, and OSError if the system is out of processes.
    """
    name = os.fsdecode(argv[0])
    program = shutil.which(name, path=env.get("PATH", os.defpath))
    if program is None:
        raise NotStarted(NOT_FOUND, f"{name}: there is no such program")
    _keep_inherited_descriptors()
    # Python ignores some signals, and its children would ignore them, too.
    ignored = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
    try:
        return os.posix_spawn(program, list(argv), env, file_actions=actions, setsid=True, setsigdef=ignored)
    except (FileNotFoundError, PermissionError) as problem:
        status = NOT_FOUND if isinstance(problem, FileNotFoundError) else NOT_RUN
        raise NotStarted(status, f"{name}: {problem.strerror}") from None


def limit_memory(process: int, size: int) -> None:
    """Limit the memory of a process, and of each that it starts, to ``size`` bytes; files that it maps do not count.

    The processes that it has started meanwhile are found and limited, too. A lower limit that one has stays.
    """
    _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
    size = size if hardest == resource.RLIM_INFINITY else min(size, hardest)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # gone
        with contextlib.suppress(PermissionError):  # its own limit is lower, and may not be raised
            resource.prlimit(process, resource.RLIMIT_DATA, (size, size))
        for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split():
            limit_memory(int(child), size)


def memory_file(content: bytes) -> int:
    """Return the descriptor of a file in memory with this content, above the numbers that a child uses.

    Opened as ``/dev/fd/N``, it is read from its beginning, as often as it is opened; as a descriptor it is read once.
    Raises OSError.
    """
    made = _memory_descriptor()
    try:
        with os.fdopen(os.dup(made), "wb") as file:
            file.write(content)
        os.lseek(made, 0, os.SEEK_SET)
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, STANDARD + 1)
    finally:
        os.close(made)


def _memory_descriptor() -> int:
    try:
        return os.memfd_create("secret", os.MFD_CLOEXEC | _NEVER_A_PROGRAM)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # which says that this Linux does not know the flag, and needs none
            raise
    return os.memfd_create("secret", os.MFD_CLOEXEC)


@functools.cache
def _keep_inherited_descriptors() -> None:
    """Have children inherit no descriptor that this process was started with; Python keeps back those it opens."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) >= STANDARD:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.set_inheritable(int(entry.name), False)
