"""The program ``stackit`` as a process: what it imports, the signals that end it, the streams it writes to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
BEFORE = {
    "_collections_abc", "codecs", "collections", "contextlib", "functools", "importlib", "io", "keyword", "operator",
    "os", "reprlib", "runpy", "types", "warnings",
}  # fmt: skip
"""What Python itself needs for ``-m``, before the first line of stackit runs."""

FOREIGN = ("attr", "cryptography", "lz4", "msgspec", "pluggy", "treq", "twisted", "zope")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program as pip installs it, in a directory of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, function = project["scripts"]["stackit"].split(":")
    script = tmp_path / "bin" / "stackit"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a service that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def environment(**more: str) -> dict[str, str]:
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **measured, **more}


def ran(*argv: Any, cwd: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    return subprocess.run(argv, cwd=cwd, env=environment(), text=True, timeout=60, check=False, **streams)


# -- what it runs -----------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with a file for every module that could be meant; each leaves a trace when it is imported."""
    directory = tmp_path / "hostile"
    directory.mkdir()
    for name in {*sys.stdlib_module_names, *FOREIGN, "sitecustomize", "usercustomize", "stackit_dropin"}:
        (directory / f"{name}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'a').write(__name__ + ' ')\n")
    return directory


def test_the_program_runs_no_code_from_the_current_directory(program: Path, hostile: Path) -> None:
    done = ran(program, "--version", cwd=hostile)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (hostile.parent / "trace").exists()
    assert "sync" in ran(program, "--help", cwd=hostile).stdout
    assert not (hostile.parent / "trace").exists()


def test_python_m_stackit_runs_none_once_python_has_found_it(hostile: Path) -> None:
    for name in BEFORE:
        (hostile / f"{name}.py").unlink(missing_ok=True)
    done = ran(sys.executable, "-m", "stackit", "--help", cwd=hostile)
    assert (done.returncode, done.stderr, "sync" in done.stdout) == (0, "", True)
    assert not (hostile.parent / "trace").exists()


def test_python_with_a_safe_path_finds_all_of_stackit(hostile: Path) -> None:
    done = ran(sys.executable, "-P", "-m", "stackit", "--help", cwd=hostile)
    assert (done.returncode, done.stderr, "sync" in done.stdout) == (0, "", True)
    assert not (hostile.parent / "trace").exists()


def test_a_current_directory_that_is_gone_is_one_line(program: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = ran("sh", "-c", f'rmdir "$PWD"; exec {program} deliveries', cwd=gone)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the current directory does not exist" in done.stderr


# -- signals ----------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_that_waits_in_silence(
    program: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [str(program), "deliveries", "--admin-url", url]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)  # it asked, and waits
                process.send_signal(number)
                out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (status, b"", b"")


def test_ctrl_c_is_silent_while_the_program_is_still_being_imported(program: Path, tmp_path: Path) -> None:
    """A plugin that never ends its import stands for a slow disk; the signal comes after the first line of stackit."""
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    (tmp_path / "twistd.conf").write_text('[plugins.slow]\nfile = "slow.py"\n')
    with subprocess.Popen(
        [program, "deliveries"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_command_that_does_not_end_is_ended_by_a_second_signal(program: Path, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "from stackit import Command, hookimpl, sleep\n"
        "async def run(shell):\n"
        "    print('running', flush=True)\n"
        "    try:\n"
        "        await sleep(shell.reactor, 600)\n"
        "    finally:\n"
        "        print('cleaning up', flush=True)\n"
        "        await sleep(shell.reactor, 600)\n"
        "@hookimpl\n"
        "def stackit_commands():\n"
        "    return [Command(name='stubborn', help='Stay.', run=run)]\n"
    )
    (tmp_path / "twistd.conf").write_text('[plugins.stubborn]\nfile = "stubborn.py"\n')
    with subprocess.Popen(
        [program, "stubborn"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"cleaning up\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_command_that_blocks_is_ended_all_the_same(program: Path, tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(
        "import time\n"
        "from stackit import Command, hookimpl\n"
        "def run(shell):\n"
        "    print('running', flush=True)\n"
        "    time.sleep(600)\n"
        "@hookimpl\n"
        "def stackit_commands():\n"
        "    return [Command(name='blocking', help='Block.', run=run)]\n"
    )
    (tmp_path / "twistd.conf").write_text('[plugins.blocking]\nfile = "blocking.py"\n')
    with subprocess.Popen(
        [program, "blocking"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")


# -- streams ----------------------------------------------------------------------


@pytest.fixture
def talkative(tmp_path: Path) -> None:
    """A plugin with commands that write more than a pipe holds, through the printer and by ``print``."""
    (tmp_path / "talk.py").write_text(
        "from stackit import Command, hookimpl\n"
        "def show(shell):\n"
        "    shell.printer.show({}, 'line\\n' * 100_000)\n"
        "def say(shell):\n"
        "    for number in range(100_000):\n"
        "        print('line', number)\n"
        "def few(shell):\n"
        "    print('a line')\n"
        "@hookimpl\n"
        "def stackit_commands():\n"
        "    return [Command(name=each.__name__, help='Talk.', run=each) for each in (show, say, few)]\n"
    )
    (tmp_path / "twistd.conf").write_text('[plugins.talk]\nfile = "talk.py"\n')


@pytest.mark.parametrize("command", ["show", "say"])
@pytest.mark.usefixtures("talkative")
def test_a_reader_that_has_enough_ends_the_program_in_silence(program: Path, tmp_path: Path, command: str) -> None:
    pipe = f"{{ {program} {command}; echo $? >&2; }} | head -n 1"
    done = ran("sh", "-c", pipe, cwd=tmp_path)
    assert (done.stdout.startswith("line"), done.stderr) == (True, "141\n")


@pytest.mark.parametrize("command", ["show", "say", "few", "--help"])
@pytest.mark.usefixtures("talkative")
def test_a_device_that_is_full_is_one_line(program: Path, tmp_path: Path, command: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = ran(program, command, cwd=tmp_path, stdout=full)
    expected = "stackit: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize("command", ["show", "few"])
@pytest.mark.usefixtures("talkative")
def test_a_standard_output_that_is_closed_is_one_line(program: Path, tmp_path: Path, command: str) -> None:
    done = ran("sh", "-c", f"{program} {command} >&-", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("stackit: standard output cannot be written: ")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&- >&- <&-"])
def test_errors_that_nobody_can_read_change_no_status(
    program: Path, tmp_path: Path, silent: str, redirection: str
) -> None:
    assert ran("sh", "-c", f"{program} nonsense {redirection}", cwd=tmp_path).returncode == 2
    asking = f"{program} deliveries --admin-url {silent} --timeout 0.2s {redirection}"
    assert ran("sh", "-c", asking, cwd=tmp_path).returncode == 1
