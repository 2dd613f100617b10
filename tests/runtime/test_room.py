"""The files of twistd on a disk without room, or where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from full_disk import full_disk
from twisted.application.service import Application, Service
from twisted.logger import ILogObserver

from stackit.api.errors import StackitError
from stackit.runtime.logs import LoggedService
from stackit.runtime.room import check_pid_file


def test_a_pid_file_on_a_full_disk_is_named_with_the_way_out(tmp_path: Path) -> None:
    with (
        full_disk(),
        pytest.raises(StackitError, match=r"^the disk is full: the PID file \S+ cannot be written"),
    ):
        check_pid_file(str(tmp_path / "twistd.pid"))
    assert list(tmp_path.iterdir()) == []


def test_a_pid_file_that_cannot_be_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StackitError, match=r"cannot be written: No such file or directory; name another .*--pidfile="):
        check_pid_file(str(tmp_path / "missing/twistd.pid"))


def test_a_pid_file_that_can_be_written_or_is_none_is_fine(tmp_path: Path) -> None:
    check_pid_file(str(tmp_path / "twistd.pid"))
    check_pid_file("")
    assert list(tmp_path.iterdir()) == []


def logged(file: Path) -> tuple[LoggedService, Any]:
    """A service that logs to a file, and its observer."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    application = Application("test")
    service = LoggedService(Service(), {"logfile": str(file)}, "text", reactor)
    service.setServiceParent(application)
    return service, application.getComponent(ILogObserver)


def test_a_log_file_on_a_full_disk_is_told_and_tells_later_how_many_lines_it_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log"
    with full_disk():
        service, observer = logged(file)
        for _ in range(3):
            observer({"log_format": "lost", "log_time": 0.0, "log_namespace": "t"})
    assert capsys.readouterr().err == (
        f"stackit: the disk is full: the log file {file} cannot be written; make room there: "
        "lines are dropped until then\n"
    )
    assert service.dropped_lines() == 3
    observer({"log_format": "written", "log_time": 0.0, "log_namespace": "t"})
    lost, written = file.read_text().splitlines()
    assert lost.endswith("log lines were dropped: nobody read them, or they could not be written count=3")
    assert written.endswith("[t] written")
    assert service.dropped_lines() == 3


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^stackit: the log file .*missing/log cannot be opened: No such file"):
        logged(tmp_path / "missing/log")
