"""stackit.subprocesses: children that end in time, with all their descendants."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from waiting import until

from stackit.subprocesses import Child, Finished, ProcessLimits, run
from stackit.subprocesses.spawn import limit_memory

NO_LIMITS = ProcessLimits()
ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def start(*argv: str | bytes, limits: ProcessLimits = NO_LIMITS, **options: Any) -> Deferred[Finished]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return Deferred.fromCoroutine(run(reactor, argv, env=ENV, limits=limits, **options))


def shell(script: str, **options: Any) -> Deferred[Finished]:
    return start("sh", "-c", script, **options)


def nap(number: int) -> str:
    """A command that lasts, and that no other run of these tests uses."""
    return f"sleep {number}.{os.getpid()}"


def alive(mark: str) -> list[str]:
    """The processes, zombies included, whose command line holds ``mark``."""
    listed = subprocess.run(["/bin/ps", "-eo", "pid,stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if mark in line]


def descriptors() -> list[str]:
    """Return the descriptors that this process has open."""
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


@pytest_twisted.ensureDeferred
async def test_a_program_gets_its_input_and_gives_its_output_and_status() -> None:
    finished = await shell("cat; echo problem >&2; exit 3", stdin=b"hello")
    assert finished == Finished(status=3, stdout=b"hello", stderr=b"problem\n")


@pytest_twisted.ensureDeferred
async def test_a_program_sees_no_environment_but_its_own() -> None:
    os.environ["STACKIT_LEAK"] = "1"
    try:
        finished = await start("env")
    finally:
        del os.environ["STACKIT_LEAK"]
    assert sorted(line.partition(b"=")[0] for line in finished.stdout.splitlines()) == [b"LC_ALL", b"PATH"]


@pytest_twisted.ensureDeferred
async def test_a_secret_is_read_from_descriptor_3_also_by_descendants() -> None:
    finished = await shell("sh -c 'cat <&3'", secret=b"hunter2")
    assert finished.stdout == b"hunter2"


@pytest_twisted.ensureDeferred
async def test_a_secret_that_nobody_reads_harms_nothing() -> None:
    assert (await shell("exit 0", secret=b"x" * 200_000)).status == 0


@pytest_twisted.ensureDeferred
async def test_without_a_secret_no_descriptor_but_the_three_is_open() -> None:
    finished = await start(sys.executable, "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:4])")
    # The fourth is the listing itself.
    assert finished.stdout == b"[0, 1, 2, 3]\n"


@pytest_twisted.ensureDeferred
async def test_arguments_may_be_any_bytes() -> None:
    assert (await start(b"printf", b"%s", b"caf\xe9 $(x)")).stdout == b"caf\xe9 $(x)"


@pytest_twisted.ensureDeferred
async def test_a_missing_program_ends_with_127() -> None:
    finished = await start("no-such-program")
    assert finished.status == 127
    assert b"no-such-program" in finished.stderr


@pytest_twisted.ensureDeferred
async def test_output_over_the_limit_is_cut_and_marked() -> None:
    finished = await shell("printf 1234567890", limits=ProcessLimits(stdout=4))
    assert (finished.stdout, finished.truncated) == (b"1234", True)
    finished = await shell("printf 1234", limits=ProcessLimits(stdout=4))
    assert (finished.stdout, finished.truncated) == (b"1234", False)


@pytest_twisted.ensureDeferred
async def test_of_long_stderr_the_end_is_kept_and_each_piece_is_seen() -> None:
    seen: list[bytes] = []
    finished = await shell("head -c 200000 /dev/zero >&2; echo the end >&2", on_stderr=seen.append)
    assert len(finished.stderr) == 65536
    assert finished.stderr.endswith(b"the end\n")
    assert len(b"".join(seen)) == 200_008


@pytest_twisted.ensureDeferred
async def test_output_that_is_handed_on_is_not_kept_and_waits_for_who_takes_it() -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    pieces: list[bytes] = []
    child = Child(reactor, ["head", "-c", "1000000", "/dev/zero"], ENV, on_stdout=pieces.append)
    child.pause()
    running = Deferred.fromCoroutine(child.communicate(b""))
    await deferLater(reactor, 0.2)
    assert pieces == []
    assert not running.called
    child.resume()
    finished = await running
    assert finished == Finished(status=0, stdout=b"", stderr=b"")
    assert sum(map(len, pieces)) == 1_000_000
    assert max(map(len, pieces)) <= 2**16


@pytest_twisted.ensureDeferred
async def test_the_last_output_of_a_child_that_has_ended_comes_though_nobody_takes_it() -> None:
    """It ends with what it left running, and its last words are in the pipe."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    pieces: list[bytes] = []
    child = Child(reactor, ["head", "-c", "60000", "/dev/zero"], ENV, on_stdout=pieces.append)
    child.pause()
    assert (await child.communicate(b"")).status == 0
    assert sum(map(len, pieces)) == 60_000


@pytest.mark.parametrize("limit", [0.1, "0.1s"])
@pytest_twisted.ensureDeferred
async def test_the_timeout_ends_the_program_and_its_descendants(limit: float | str) -> None:
    finished = await shell(f"{nap(1001)} & {nap(1001)} & wait", limits=ProcessLimits(timeout=limit, grace="2s"))
    assert finished.timed_out
    assert finished.status == -15
    assert alive(nap(1001)) == []


@pytest_twisted.ensureDeferred
async def test_a_program_that_ignores_the_request_to_end_is_killed() -> None:
    running = f"trap '' TERM; while :; do {nap(1002)}; done"
    finished = await shell(running, limits=ProcessLimits(timeout=2.0, grace=0.1))
    assert finished.timed_out
    assert finished.status == -9
    assert alive(nap(1002)) == []


@pytest_twisted.ensureDeferred
async def test_silence_ends_a_program_and_output_keeps_it() -> None:
    finished = await shell(
        f"for i in 1 2 3 4 5 6; do echo . >&2; sleep 0.1; done; {nap(1003)}", limits=ProcessLimits(stall=2.0)
    )
    assert finished.timed_out
    assert finished.stderr == b".\n" * 6
    assert alive(nap(1003)) == []


@pytest_twisted.ensureDeferred
async def test_descendants_left_behind_are_ended() -> None:
    finished = await shell(f"{nap(1004)} & exit 0")
    assert finished.status == 0
    assert not finished.timed_out
    assert alive(nap(1004)) == []


@pytest_twisted.ensureDeferred
async def test_descendants_that_let_go_of_the_pipes_are_ended_too() -> None:
    await shell(f"{nap(1005)} </dev/null >/dev/null 2>&1 & exit 0")
    # Nothing tells of its end, which comes when it is its turn on a busy machine.
    await until(lambda: not [line for line in alive(nap(1005)) if " Z" not in line], "the end of what was left")


@pytest_twisted.ensureDeferred
async def test_a_descendant_that_fled_the_group_is_not_waited_for(tmp_path: Path) -> None:
    fled = f"setsid sh -c 'echo $$ > {tmp_path}/pid; exec {nap(1006)}'"
    script = f"{fled} & until [ -s {tmp_path}/pid ]; do sleep 0.01; done; exit 0"
    finished = await shell(script, limits=ProcessLimits(grace=0.1))
    assert finished.status == 0
    os.kill(int((tmp_path / "pid").read_text()), 9)


@pytest_twisted.ensureDeferred
async def test_cancelling_ends_everything_before_it_is_over() -> None:
    started: Deferred[None] = Deferred()
    running = shell(f"{nap(1007)} & echo go >&2; wait", on_stderr=lambda _: started.callback(None))
    await started
    running.cancel()
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert alive(nap(1007)) == []


@pytest_twisted.ensureDeferred
async def test_cancelling_before_the_group_exists_ends_the_program() -> None:
    running = shell(f"{nap(1008)}")
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert alive(nap(1008)) == []


# -- collected by something else ---------------------------------------------------------


@pytest.fixture(params=["SIGCHLD is ignored", "any child is waited for"])
def collector(request: pytest.FixtureRequest) -> Iterator[None]:
    """Something else in this process that collects every child, as a plugin may."""
    if request.param == "SIGCHLD is ignored":
        handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        yield
        signal.signal(signal.SIGCHLD, handler)
        return
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            with contextlib.suppress(ChildProcessError):  # there is none
                os.waitpid(-1, os.WNOHANG)

    thread = threading.Thread(target=collect)
    thread.start()
    yield
    over.set()
    thread.join()


async def status_of(*argv: str, **options: Any) -> int | None:
    """Return the one exit status of 20 runs, None if it was lost in any: it depends on which collector is first."""
    statuses = set()
    for _ in range(20):
        finished = await start(*argv, **options)
        statuses.add(finished.status)
    return None if None in statuses else statuses.pop()


@pytest.mark.usefixtures("collector")
@pytest_twisted.ensureDeferred
async def test_a_child_that_somebody_else_collects_is_over_and_its_status_unknown() -> None:
    assert await status_of("true") is None
    finished = [await shell("cat; echo problem >&2", stdin=b"x" * 200_000) for _ in range(5)]
    assert {(len(each.stdout), each.stderr, each.timed_out) for each in finished} == {(200_000, b"problem\n", False)}


@pytest.mark.usefixtures("collector")
@pytest_twisted.ensureDeferred
async def test_a_child_that_somebody_else_collects_ends_in_time_and_when_it_is_cancelled() -> None:
    late = await shell(nap(3131), limits=ProcessLimits(timeout=0.1))
    assert late.timed_out
    running = shell(f"{nap(3132)} & {nap(3132)}")
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert alive(nap(3131)) == alive(nap(3132)) == []


@pytest.mark.usefixtures("collector")
@pytest_twisted.ensureDeferred
async def test_what_a_collected_child_left_behind_is_ended() -> None:
    await shell(f"{nap(3133)} & exit 0")
    assert alive(nap(3133)) == []


@pytest_twisted.ensureDeferred
async def test_a_child_that_was_collected_before_anybody_looked_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pidfd_open = os.pidfd_open

    def late(pid: int) -> int:
        os.waitpid(pid, 0)
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", late)
    assert await shell("echo output; exit 3") == Finished(status=None, stdout=b"output\n", stderr=b"")


@pytest_twisted.ensureDeferred
async def test_a_child_that_cannot_be_watched_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(pid: int) -> int:
        os.waitpid(pid, 0)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", too_many)
    gc.collect()  # what tests before this one left open is closed now, and not meanwhile
    before = descriptors()
    with pytest.raises(OSError, match="Too many open files"):
        await shell("exit 3")
    assert descriptors() == before


# -- memory -----------------------------------------------------------------------------

HUNGRY = f"{sys.executable} -c 'print(len(bytearray(300_000_000)))'"


@pytest_twisted.ensureDeferred
async def test_a_program_and_what_it_starts_have_the_memory_that_they_may_have() -> None:
    allowed = await shell(f"{HUNGRY}; {HUNGRY}", limits=ProcessLimits(memory=600_000_000))
    assert allowed.stdout.split() == [b"300000000"] * 2
    refused = await shell(f'{HUNGRY}; sh -c "{HUNGRY}"; echo over', limits=ProcessLimits(memory=200_000_000))
    assert refused.stdout == b"over\n"
    assert refused.stderr.count(b"MemoryError") == 2


@pytest_twisted.ensureDeferred
async def test_files_that_a_program_maps_are_not_its_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(300_000_000)
    script = "import mmap; f = open('large'); print(len(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)))"
    mapped = await shell(f'cd {tmp_path} && {sys.executable} -c "{script}"', limits=ProcessLimits(memory=200_000_000))
    assert mapped.stdout == b"300000000\n", mapped.stderr


def test_what_a_program_started_before_its_memory_had_a_limit_has_it_too() -> None:
    script = f'sh -c "read line; {HUNGRY}"; echo over'
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=-1) as run:
        while not Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text():
            os.sched_yield()
        limit_memory(run.pid, 200_000_000)
        said, problem = run.communicate(b"now\n", timeout=60)
    assert (said, problem.count(b"MemoryError")) == (b"over\n", 1)


def test_a_process_that_has_gone_needs_no_limit() -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    limit_memory(gone.pid, 200_000_000)
