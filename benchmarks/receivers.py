"""Who is measured as a receiver: how each is set up, and how it is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import harness

SECRET = "benchmark"
STACKIT = "stackit, durable"
WITHOUT_JOURNAL = "stackit, no journal"
PEERS = harness.HERE / "peers"
BUILT = harness.VENV / "peers"
PATIENCE = 300.0
"""Seconds that setting up a peer may take."""


class CannotRun(Exception):
    """A peer is not to be had here; the text says why."""


@dataclass(frozen=True)
class Receiver:
    """``prepare`` sets it up or raises CannotRun; ``command(port, directory)`` starts it in an empty directory."""

    name: str
    path: str
    command: Callable[[int, Path], list[str]]
    prepare: Callable[[], None] = lambda: None

    @contextmanager
    def running(self) -> Iterator[int]:
        """Its port, while it runs."""
        with harness.scratch() as directory:
            port = harness.free_port()
            env = {
                "STACKIT_GITHUB_WEBHOOK_SECRET": SECRET,
                "BENCH_PORT": str(port),
                "BENCH_SECRET": SECRET,
                "GOMAXPROCS": "1",
                "NODE_ENV": "production",
            }
            with harness.serving(self.command(port, directory), port, cwd=directory, env=env):
                yield port


def receivers() -> list[Receiver]:
    """stackit first, then everyone else, then what answers without looking."""
    return [
        Receiver(STACKIT, "/api/v1/webhooks/github", _stackit(str(Path(sys.executable).with_name("twistd")))),
        Receiver(WITHOUT_JOURNAL, "/api/v1/webhooks/github", _stackit(str(PEERS / "without_journal.py"))),
        Receiver("gidgethub, aiohttp", "/webhook", _python("gidgethub_server.py"), _needs("gidgethub", "aiohttp")),
        Receiver("Go net/http", "/webhook", lambda port, _: [str(BUILT / "gohook"), str(port), SECRET], _build_go),
        Receiver("octokit, node", "/webhook", _node("octokit.mjs"), _install_node),
        Receiver("Probot", "/webhook", _node("probot.mjs"), _install_node),
        Receiver("adnanh/webhook, /bin/true", "/hooks/push", _adnanh, _find_adnanh),
        Receiver("Buildbot's hook", "/change_hook/github", _buildbot, _needs("buildbot")),
        Receiver("(answers, looks at nothing)", "/", _python("nothing.py")),
    ]


def _stackit(*program: str) -> Callable[[int, Path], list[str]]:
    """stackit with no configuration but its addresses; it logs to a file, every plugin that it brings is on."""

    def command(port: int, directory: Path) -> list[str]:
        return [
            *(
                sys.executable,
                *program,
                "--nodaemon",
                "--pidfile=",
                f"--logfile={directory / 'stackit.log'}",
                "stackit",
            ),
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            *("--admin-listen", f"tcp:{harness.free_port()}:interface=127.0.0.1"),
            *("--state-dir", str(directory / "state")),
        ]

    return command


def _python(script: str) -> Callable[[int, Path], list[str]]:
    return lambda port, _: [sys.executable, str(PEERS / script), str(port), SECRET]


def _node(script: str) -> Callable[[int, Path], list[str]]:
    return lambda port, _: ["node", str(BUILT / "node" / script), str(port), SECRET]


def _needs(*modules: str) -> Callable[[], None]:
    def prepare() -> None:
        try:
            for module in modules:
                __import__(module)
        except ImportError as problem:
            raise CannotRun(f"{problem}: pip install {' '.join(modules)}") from None

    return prepare


def _build_go() -> None:
    _find("go", "apt install golang-go")
    BUILT.mkdir(parents=True, exist_ok=True)
    _do("go", "build", "-o", str(BUILT / "gohook"), ".", cwd=PEERS / "gohook")


def _install_node() -> None:
    for program in ("node", "npm"):
        _find(program, "apt install nodejs npm")
    place = BUILT / "node"
    place.mkdir(parents=True, exist_ok=True)
    for file in (*PEERS.glob("*.mjs"), PEERS / "package.json"):
        shutil.copy(file, place)
    if not (place / "node_modules" / ".package-lock.json").exists():  # which npm writes last
        _do("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=place)


def _find_adnanh() -> None:
    _find("webhook", "apt install webhook")


def _adnanh(port: int, directory: Path) -> list[str]:
    rule = f'{{"type": "payload-hmac-sha256", "secret": "{SECRET}", '
    rule += '"parameter": {"source": "header", "name": "X-Hub-Signature-256"}}'
    hook = f'[{{"id": "push", "execute-command": "/bin/true", "trigger-rule": {{"match": {rule}}}}}]'
    (directory / "hooks.json").write_text(hook)
    return ["webhook", "-hooks", str(directory / "hooks.json"), "-ip", "127.0.0.1", "-port", str(port)]


def _buildbot(_port: int, directory: Path) -> list[str]:
    buildbot = str(Path(sys.executable).with_name("buildbot"))
    _do(buildbot, "create-master", "--quiet", str(directory), cwd=directory)
    shutil.copy(PEERS / "buildbot_master.cfg", directory / "master.cfg")
    return [buildbot, "start", "--nodaemon", str(directory)]


def _find(program: str, advice: str) -> None:
    if shutil.which(program) is None:
        raise CannotRun(f"{program} is not installed: {advice}")


def _do(*argv: str, cwd: Path) -> None:
    environment = {**os.environ, "GOFLAGS": ""}
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise CannotRun(f"{' '.join(argv[:2])}: {problem}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise CannotRun(f"{' '.join(argv[:2])}: {said}")
