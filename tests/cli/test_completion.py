"""The scripts of ``stackit completion``: that of bash in a bash, all of them beside the parser they are made from."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit import Command
from stackit.cli.completion import SHELLS, completion
from stackit.cli.loading import load_commands
from stackit.cli.parser import parser
from stackit.cli.run import run

PLUGIN = """
from stackit import Command, hookimpl

def arguments(parser):
    parser.add_argument("whom", metavar="WHOM", choices=["world", "moon"])
    parser.add_argument("--how", choices=["loud", "low"], help="100% [as] it's: said")
    parser.add_argument("--from", metavar="FILE")

@hookimpl
def stackit_commands():
    return [
        Command(name="greet", help="Greet: 100% of 'them' [all].", run=print, arguments=arguments),
        Command(name="read", help="Read.", run=print, arguments=lambda p: p.add_argument("file", metavar="FILE")),
    ]
"""


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, Command]:
    (tmp_path / "polite.py").write_text(PLUGIN)
    (tmp_path / "twistd.conf").write_text('[plugins.polite]\nfile = "polite.py"\n')
    return load_commands(None, {}, tmp_path)[0]


@pytest.fixture
def scripts(commands: dict[str, Command]) -> dict[str, str]:
    return {shell: completion(parser(commands), shell) for shell in SHELLS}


def completed(script: str, cwd: Path, *words: str) -> list[str]:
    """What bash offers for a command line, whose last word is being typed."""
    line = " ".join(map(shlex.quote, words))
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _stackit; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    ran = subprocess.run(
        ["/bin/bash", "--norc", "-c", f"{script}\n{asked}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stderr == ""
    return sorted(ran.stdout.split())


def test_bash_offers_what_the_command_line_takes(
    scripts: dict[str, str], commands: dict[str, Command], tmp_path: Path
) -> None:
    def offered(*words: str) -> list[str]:
        return completed(scripts["bash"], tmp_path, "stackit", *words)

    assert offered("") == sorted(commands)
    assert offered("deliver") == ["deliveries", "delivery"]
    assert offered("gre") == ["greet"]
    assert offered("--ver") == ["--version"]
    assert offered("deliveries", "--ver") == []
    assert offered("deliveries", "--s") == ["--since", "--state", "--subscriber"]
    assert offered("--json", "deliveries", "--st") == ["--state"]
    assert offered("--admin-url", "http", ":", "//127.0.0.1:8081", "replay", "--d") == ["--dead"]
    assert offered("deliveries", "--state", "") == ["dead", "done", "pending"]
    assert offered("deliveries", "--state", "d") == ["dead", "done"]
    assert offered("deliveries", "--state", "=", "p") == ["pending"]
    assert offered("deliveries", "--state", "=") == ["dead", "done", "pending"]
    assert offered("deliveries", "--repo", "") == []
    assert offered("completion", "") == ["bash", "fish", "zsh"]
    assert offered("greet", "--how", "") == ["loud", "low"]
    assert offered("greet", "") == ["moon", "world"]
    for words in (("--config", "twi"), ("deliveries", "--config", "twi"), ("greet", "--from", "twi"), ("read", "twi")):
        assert offered(*words) == ["twistd.conf"], words


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command_and_every_option(
    scripts: dict[str, str], commands: dict[str, Command], shell: str
) -> None:
    top = parser(commands)
    script = scripts[shell]
    for name in commands:
        assert re.search(rf"\b{name}\b", script)
    for option in ("admin-url", "config", "no-color", "since", "dead", "accept-deletions", "how", "version"):
        assert re.search(rf"(--|-l ){option}\b", script), option
    assert "100%%" not in script
    assert top.prog in script


@pytest.mark.parametrize("shell", [each for each in SHELLS if shutil.which(each)])
def test_a_script_is_one_that_its_shell_can_read(scripts: dict[str, str], tmp_path: Path, shell: str) -> None:
    (tmp_path / "script").write_text(scripts[shell])
    ran = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest_twisted.ensureDeferred
async def test_the_command_prints_the_script_without_a_running_stackit(scripts: dict[str, str], tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    for shell, script in scripts.items():
        out, err = io.StringIO(), io.StringIO()
        running = run(reactor, ["completion", shell], environ={}, cwd=tmp_path, out=out, err=err)
        assert await Deferred.fromCoroutine(running) == 0
        assert (out.getvalue(), err.getvalue()) == (f"{script}\n", "")


def test_no_word_of_a_plugin_is_run_by_a_shell(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    evil = [f"$(touch {ran})", f"`touch {ran}`", f"(touch {ran})", f"x;touch {ran}", "${HOME}", "~root", "*", "a b"]

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("whom", choices=["world", *evil], help=f"$(touch {ran})")
        parser.add_argument("--how", choices=["loud", *evil], metavar=f"$(touch {ran})")
        parser.add_argument(f"--x$(touch${{IFS}}{ran})", action="store_true")

    def nothing(_: object) -> None:
        """Do nothing."""

    command = Command(name="greet", help=f"Say $(touch {ran}) 'to `touch {ran}`.", run=nothing, arguments=arguments)
    made = {shell: completion(parser({"greet": command}), shell) for shell in SHELLS}
    assert completed(made["bash"], tmp_path, "stackit", "greet", "") == ["world"]
    assert completed(made["bash"], tmp_path, "stackit", "greet", "--how", "") == ["loud"]
    assert "--how" in completed(made["bash"], tmp_path, "stackit", "greet", "--")
    assert completed(made["bash"], tmp_path, "stackit", "") == ["greet"]
    fish = shutil.which("fish")
    if fish is not None:
        (tmp_path / "stackit.fish").write_text(made["fish"])
        asked = f"source {tmp_path}/stackit.fish; complete -C 'stackit greet '; complete -C 'stackit greet --how '"
        found = subprocess.run(
            [fish, "--no-config", "-c", asked], capture_output=True, text=True, check=True, timeout=30
        )
        assert {"world", "loud"} <= set(found.stdout.split())
    assert not ran.exists()
    for script in made.values():
        assert "${HOME}" not in script
        assert "~root" not in script
