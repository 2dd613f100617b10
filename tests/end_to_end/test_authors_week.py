"""The week of a plugin's author, by the commands that the documentation gives: write, try, mend, test, package."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import site
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from waiting import until

from stackit.api.reactor import sleep
from stackit.testing.daemon import Daemon

STACKIT = (sys.executable, "-P", "-m", "stackit")
PATIENCE = 90.0
PLUGIN = """
from stackit import on
import wording

@on("push")
def pushed(push):
    print(wording.line(push))
"""


class Terminal:
    """A program in a terminal of its own, whose output is read as it comes."""

    def __init__(self, reactor: Any, directory: Path, *argv: str) -> None:
        self._reactor = reactor
        self._seen = 0
        measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        folders = {"HOME": str(directory), "TMPDIR": str(directory / "tmp")}
        program = f"cd {shlex.quote(str(directory))} && exec setsid {shlex.join(argv)}"
        self.daemon = Daemon.spawn(
            reactor, ["/bin/sh", "-c", program], {"PATH": "/usr/local/bin:/usr/bin:/bin", **folders, **measured}
        )

    async def reads(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, after the one that was read last."""
        deadline = self._reactor.seconds() + PATIENCE
        while (found := re.compile(pattern, re.MULTILINE).search(self.text, self._seen)) is None:
            assert self.daemon.status is None, f"it ended before {pattern}:\n{self.text}"
            assert self._reactor.seconds() < deadline, f"waited in vain for {pattern}:\n{self.text}"
            await sleep(self._reactor, 0.05)
        self._seen = found.end()
        return found

    @property
    def text(self) -> str:
        return self.daemon.output.decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Do what the terminal does at Ctrl-C: signal every process in it."""
        if self.daemon.pid is not None and self.daemon.status is None:
            os.killpg(self.daemon.pid, number)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest_twisted.async_yield_fixture
async def dev(home: Path) -> AsyncIterator[Any]:
    """Start ``stackit dev …`` in the author's directory; it is ended after the test."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(reactor, home, *STACKIT, "dev", *arguments))
        return started[-1]

    yield start
    for each in started:
        each.signal(signal.SIGKILL)
        await each.daemon.ended()


def stackit(home: Path, command: str) -> str:
    """Run a command as it is printed: ``stackit send push …``."""
    program, *arguments = shlex.split(command)
    assert program == "stackit"
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [*STACKIT, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def processes_of(home: Path) -> list[str]:
    """Return the command lines of processes that name the author's directory."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(each.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [each for each in found if str(home) in each]


@pytest_twisted.ensureDeferred
async def test_a_plugin_is_written_with_stackit_beside_it(dev: Any, home: Path) -> None:
    plugin, helper = home / "diary.py", home / "wording.py"

    # A typing error in a new file is named with its line, as the tutorial shows it; the next save tries again.
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    code = page[page.index("# diary.py\n") :].partition("```")[0]
    plugin.write_text(code.replace("def pushed(push):", "def pushed(push)"))
    terminal: Terminal = dev("diary.py")
    said = page[page.index("stackit: plugin diary: /srv") :].partition("```")[0].replace("/srv/diary", str(home))
    for line in said.splitlines():
        await terminal.reads(f"^{re.escape(line)}$")
    helper.write_text("def line(push):\n    return push.reff\n")
    plugin.write_text(PLUGIN)
    await terminal.reads("^dev: (diary|wording).py changed; starting again")
    await terminal.reads("^dev: diary.py is loaded")

    # An event is sent by the line that was printed; where the handler fails, the traceback shows the place.
    send = (await terminal.reads("^dev: send it an event: +(.*)$"))[1]
    deliveries = (await terminal.reads("^dev: see what became of it: +(.*)$"))[1]
    assert "202: taken" in stackit(home, send)
    await terminal.reads("error=.*AttributeError: 'Push' object has no attribute 'reff'")
    await terminal.reads(r'File ".*/diary.py", line 7, in pushed')
    await terminal.reads(r'File ".*/wording.py", line 2, in line')

    # The file beside it is mended: the event that failed is handled by the new code.
    helper.write_text("def line(push):\n    return f'{push.repo} has a new {push.ref}'\n")
    await terminal.reads("^dev: wording.py changed; starting again")
    await terminal.reads("octo/widget has a new refs/heads/main")
    assert "push" in stackit(home, deliveries)

    # Ctrl-C ends all of it, in silence, and leaves nothing behind.
    terminal.signal(signal.SIGINT)
    assert await terminal.daemon.ended() == 130
    assert "Traceback" not in terminal.text[terminal.text.rindex("starting again") :]
    assert list((home / "tmp").iterdir()) == []
    await until(lambda: processes_of(home) == [], "the end of all that ran in the terminal")


@pytest_twisted.ensureDeferred
async def test_it_has_its_settings_from_the_configuration_and_events_at_each_start(dev: Any, home: Path) -> None:
    (home / "twistd.conf").write_text(
        '[plugins.reader]\nfile = "reader.py:Reader"\nnotes = "notes.txt"\ntoken_file = "token"\n'
        '[plugins.other]\nmodule = "not_there"\n'
    )
    (home / "token").write_text("s3cr3t-of-the-Author")
    (home / "reader.py").write_text("""
from pathlib import Path
import msgspec
from stackit import SecretFile, hookimpl

class Reader:
    class Settings(msgspec.Struct):
        notes: Path
        token_file: SecretFile

    def __init__(self, settings):
        self.settings = settings

    @hookimpl
    def stackit_service(self, app):
        self.app = app

    @hookimpl
    def stackit_refs_changed(self, change):
        info = self.app.mirror(change.repo)
        print("token", self.settings.token_file.read())
        self.settings.notes.write_text(f"{info.path == change.mirror} {(change.mirror / 'HEAD').exists()}")
""")
    with contextlib.ExitStack() as taken:
        for port in (8080, 8081):  # as they are beside another stackit
            with contextlib.suppress(OSError):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        terminal: Terminal = dev("reader.py", "--event", "push")
        await terminal.reads(r"stackit starts .* plugins=logger,metrics,mirror,ratelimit,reader$")
        send = (await terminal.reads("^dev: send it an event: +(.*)$"))[1]
        deliveries = (await terminal.reads("^dev: see what became of it: +(.*)$"))[1]
    assert "204: verified, but no plugin handles issues" in stackit(home, send.replace(" push ", " issues "))
    assert "issues.opened" in stackit(home, deliveries)
    await terminal.reads(r"token \*\*\*")
    await terminal.reads(r"event handled event=refs_changed .*subscriber=reader")
    assert (home / "notes.txt").read_text() == "True True"
    assert "s3cr3t" not in terminal.text
    (home / "notes.txt").unlink()
    (home / "token").write_text("")
    (home / "reader.py").touch()
    await terminal.reads(rf"twistd.conf: plugins.reader.token_file: secret file {home}/token is empty")
    terminal.signal(signal.SIGTERM)
    assert await terminal.daemon.ended() == 143
    assert list((home / "tmp").iterdir()) == []


def test_the_plugin_of_the_tutorial_becomes_a_package_that_stackit_finds(home: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    for name, block in re.findall(
        r"^```(?:python|toml)\n# (diary\.py|pyproject\.toml)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    ):
        (home / name).write_text(block)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", home / "dist", home], check=True, timeout=120)
    (built,) = (home / "dist").glob("stackit_diary-1.0-*.whl")

    venv = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=120)
    python = str(venv / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", str(built)]
    subprocess.run(pip, check=True, timeout=120)
    (packages,) = venv.glob("lib/python*/site-packages")
    # stackit itself, and what it needs, are those that run this test.
    lines = [f"import site; site.addsitedir({each!r})" for each in site.getsitepackages()]
    (packages / "stackit_under_test.pth").write_text("\n".join(lines) + "\n")

    (home / "twistd.conf").write_text('[plugins.diary]\npath = "diary.txt"\nfolder = "x"\n')
    twistd = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    argv = [python, "-P", "-c", twistd, "--nodaemon", "--pidfile=", "stackit", "--listen", "tcp:0:interface=127.0.0.1"]
    done = subprocess.run(argv, cwd=home, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert f"{home}/twistd.conf: plugins.diary.folder: unknown key (there are: branches, path)" in done.stderr
    assert done.returncode == 1


@pytest_twisted.ensureDeferred
async def test_the_plugin_of_the_page_reads_the_mirror(running_stackit: Any, pretend_github: Any, home: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n# authors\.py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (home / "authors.py").write_text(code)
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    tables = {"authors": {"file": str(home / "authors.py:Authors")}}
    server = await running_stackit(config={"repos": [{"name": "octo/widget", "url": url}], "plugins": tables})
    pretend_github.webhook(server.webhook_url, server.secret)
    assert (await server.sync("octo/widget")).status == 200
    sent = await pretend_github.push("octo/widget", count=3)
    await server.wait_for(sent.guid, visible=True)

    async def told() -> bool:
        return "octo/widget refs/heads/main: octocat" in server.log

    await server.until(told, "the plugin to name the authors")
    assert "handler failed" not in server.log
