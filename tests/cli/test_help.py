"""The help of the shell: it fits a terminal of 80 columns, and every command has an example."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackit import Command
from stackit.cli.loading import load_commands
from stackit.cli.parser import parse

COLUMNS = 80
COMMANDS = load_commands(None, {}, Path("/nonexistent"))[0]


def shown(
    arguments: list[str],
    commands: dict[str, Command],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """What a command line that asks for help prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    with pytest.raises(SystemExit) as ended:
        parse(arguments, commands)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_every_help_fits_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(arguments, COMMANDS, capsys, monkeypatch)
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_the_shell_understands(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown([name, "--help"], COMMANDS, capsys, monkeypatch)
    lines = COMMANDS[name].example.splitlines()
    assert lines
    for line in lines:
        assert f"\n  {line}\n" in text
        program, *arguments = line.split()
        assert program == "stackit"
        assert parse(arguments, COMMANDS).command == name


def test_a_help_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("Greet 100% of a person.", "Greet %(prog)s and 5% more."):
        command = Command(name="greet", help=text, run=print, example="stackit greet --share 5%")
        assert text in shown(["greet", "--help"], {"greet": command}, capsys, monkeypatch)
        assert text in shown(["--help"], {"greet": command}, capsys, monkeypatch)


def test_python_m_stackit_names_the_program_as_people_call_it(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS)}
    ran = subprocess.run(
        [sys.executable, "-m", "stackit", "--help"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("usage: stackit ")


@pytest.mark.parametrize(
    "line",
    ["send push payload.json --action x", "send push --action x payload.json", "send --action x push payload.json"],
)
def test_an_argument_that_may_be_missing_stands_before_or_behind_the_options(line: str) -> None:
    options = parse(line.split(), COMMANDS)
    assert (options.event, options.file, options.action) == ("push", "payload.json", "x")


def test_an_event_that_github_does_not_have_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["dev", "diary.py", "--event", "push", "--event", "isues.opened"], COMMANDS)
    assert 'did you mean "issues"?' in capsys.readouterr().err


def test_one_argument_too_many_is_still_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["send", "push", "--action", "x", "payload.json", "more"], COMMANDS)
    assert "unrecognized arguments: more" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["nothing", "an option alone"])
def test_without_a_command_the_way_to_the_list_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, COMMANDS)
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("\nstackit: error: a COMMAND is missing: stackit --help lists them\n")
