"""Commands that plugins bring to the shell, from files as a third party writes them."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import serverFromString

from stackit import AdminRequest, Response, Route, error
from stackit.cli.run import run
from stackit.config.model import Config
from stackit.web.admin.site import admin_site

GREET = """
from stackit import Command, StackitError, hookimpl

def arguments(parser):
    parser.add_argument("who")
    parser.add_argument("--loud", action="store_true")

def greet(shell):
    if shell.options.who == "nobody":
        raise StackitError("nobody is there: name somebody")
    text = f"hello {shell.options.who}"
    shell.printer.show({"said": text}, text.upper() if shell.options.loud else text)

@hookimpl
def stackit_commands():
    return [Command(name="greet", help="Greet 100% of a person.", run=greet, arguments=arguments)]
"""
LOOKUP = """
from stackit import Command, hookimpl

async def lookup(shell):
    answer = await shell.admin.ask("GET", "/lookup", {"name": "widget"})
    rows = [[each["name"], each["owner"]] for each in answer["found"]]
    shell.printer.table(answer, ["NAME", "OWNER"], rows, empty="nothing found")

@hookimpl
def stackit_commands():
    return [Command(name="lookup", help="Look a widget up.", run=lookup)]
"""
TAKES = """
from stackit import Command, hookimpl

@hookimpl
def stackit_commands():
    return [Command(name={name!r}, help="Another one.", run=print)]
"""
BROKEN = "import nothing_of_that_name"
FAILS = """
from stackit import Command, hookimpl

def fails(shell):
    raise {fault}

@hookimpl
def stackit_commands():
    return [Command(name="fails", help="Fail.", run=fails)]
"""

Plugins = Callable[..., None]


class Ran:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    """Write plugin files, and a configuration that names them."""

    def write(**texts: str) -> None:
        tables = []
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
            tables.append(f'[plugins.{name}]\nfile = "{name}.py"\n')
        (tmp_path / "twistd.conf").write_text("\n".join(tables))

    return write


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Any]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    async def ran(*arguments: str, **environ: str) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        status = await run(reactor, arguments, environ=environ, cwd=tmp_path, out=out, err=err)
        return Ran(status, out.getvalue(), err.getvalue())

    return ran


@pytest_twisted.async_yield_fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Serve admin routes; returns the URL."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened: list[Any] = []

    async def listen(routes: list[Route]) -> str:
        site = admin_site(Config(state_dir=tmp_path), routes, reactor)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        opened.append((site, port))
        return f"http://127.0.0.1:{port.getHost().port}"

    yield listen
    for site, port in opened:
        await port.stopListening()
        await site.wind_down(5)


@pytest_twisted.async_yield_fixture
async def admin() -> AsyncIterator[str]:
    """The address of an admin side with a route for ``lookup``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def look(request: AdminRequest) -> Response:
        if request.query != {"name": "widget"}:
            return error(400, "no name")
        return Response(body={"found": [{"name": "widget\x1b[2J", "owner": "octo"}]})

    config = Config(state_dir=Path("/nowhere"))
    site = admin_site(config, [Route("GET", "{prefix}/lookup", look)], reactor)
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
    yield f"tcp:{port.getHost().port}:interface=127.0.0.1"
    await port.stopListening()
    await site.wind_down(5)


@pytest_twisted.ensureDeferred
async def test_a_command_of_a_plugin_works_without_a_running_stackit(plugins: Plugins, shell: Any) -> None:
    plugins(polite=GREET)
    ran = await shell("greet", "--loud", "world")
    assert (ran.status, ran.out, ran.err) == (0, "HELLO WORLD\n", "")
    assert json.loads((await shell("greet", "world", "--json")).out) == {"said": "hello world"}
    ran = await shell("greet", "nobody")
    assert (ran.status, ran.out, ran.err) == (1, "", "stackit: nobody is there: name somebody\n")


@pytest_twisted.ensureDeferred
async def test_a_command_of_a_plugin_asks_the_running_stackit(plugins: Plugins, shell: Any, admin: str) -> None:
    plugins(finder=LOOKUP)
    ran = await shell("lookup", STACKIT_ADMIN_LISTEN=admin)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "NAME           OWNER\nwidget\\x1b[2J  octo\n"


@pytest_twisted.ensureDeferred
async def test_a_command_that_asks_a_stackit_that_does_not_run_is_one_line(plugins: Plugins, shell: Any) -> None:
    plugins(finder=LOOKUP)
    ran = await shell("lookup", STACKIT_ADMIN_LISTEN="tcp:1")
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "no stackit answers at http://127.0.0.1:1" in ran.err


@pytest.mark.parametrize(("name", "owner"), [("deliveries", "stackit itself"), ("repos", "plugin mirror")])
@pytest_twisted.ensureDeferred
async def test_a_command_whose_name_is_taken_is_an_error_that_names_both(
    plugins: Plugins, shell: Any, name: str, owner: str
) -> None:
    plugins(zealous=TAKES.format(name=name))
    ran = await shell("replay", "1")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"stackit: plugin zealous: the command {name} is there already, from {owner}\n"


@pytest.mark.parametrize("name", ["Greet", "two words", "-x", "", 5, None])
@pytest_twisted.ensureDeferred
async def test_a_command_without_a_proper_name_is_an_error(plugins: Plugins, shell: Any, name: Any) -> None:
    plugins(zealous=TAKES.format(name=name))
    ran = await shell("deliveries")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("stackit: plugin zealous: ")


@pytest_twisted.ensureDeferred
async def test_arguments_that_cannot_be_added_are_an_error(plugins: Plugins, shell: Any) -> None:
    plugins(zealous=GREET.replace('"--loud"', '"--json"'))
    ran = await shell("deliveries")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("stackit: plugin zealous: the arguments of the command greet cannot be added: ")


@pytest_twisted.ensureDeferred
async def test_a_broken_plugin_takes_its_own_commands_away_and_no_other(
    plugins: Plugins, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins(broken=BROKEN, polite=GREET)
    assert (await shell("greet", "world")).out == "hello world\n"
    with pytest.raises(SystemExit) as ended:
        await shell("frobnicate")
    assert ended.value.code == 2
    assert "plugin broken: broken.py cannot be imported: ModuleNotFoundError" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_is_disabled_or_misconfigured_has_no_commands(
    plugins: Plugins, shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for table, said in (("enabled = false", "invalid choice: 'repos'"), ("concurency = 1", "concurency: unknown key")):
        (tmp_path / "twistd.conf").write_text(f"[plugins.mirror]\n{table}\n")
        with pytest.raises(SystemExit):
            await shell("repos")
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["KeyError('x')", "RuntimeError('two\\nlines')", "OSError(2, 'gone')"])
@pytest_twisted.ensureDeferred
async def test_whatever_a_command_raises_is_one_line_that_names_its_plugin(
    plugins: Plugins, shell: Any, fault: str
) -> None:
    plugins(unlucky=FAILS.format(fault=fault))
    ran = await shell("fails")
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert ran.err.startswith("stackit: plugin unlucky: the command fails failed: ")


@pytest_twisted.ensureDeferred
async def test_the_help_lists_the_commands_of_plugins(
    plugins: Plugins, shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins(polite=GREET)
    with pytest.raises(SystemExit) as ended:
        await shell("--help")
    shown = capsys.readouterr().out
    assert (ended.value.code, "Greet 100% of a person." in shown, "List the managed repositories" in shown) == (
        0,
        True,
        True,
    )


@pytest_twisted.ensureDeferred
async def test_a_command_whose_plugin_is_not_in_the_running_stackit_names_it(
    shell: Any, serve: Callable[..., Any]
) -> None:
    def added(_request: AdminRequest) -> Response:
        return Response(status=201, body={"name": "octo/widget", "url": "u"})

    def not_found(_request: AdminRequest) -> Response:
        return error(404, "not found")

    there = {"plugins": [{"name": "logger"}], "left_out": []}
    routes = [
        Route("POST", "{prefix}/repos", added),
        Route("DELETE", "{prefix}/repos/{owner}/{name}", added),
        Route("GET", "{prefix}/plugins", lambda _request: Response(body=there)),
    ]
    url = await serve(routes)
    for command in (["repos"], ["sync", "octo/widget"], ["repos", "add", "octo/widget"]):
        ran = await shell(*command, "--admin-url", url)
        assert (ran.status, ran.out, ran.err) == (
            1,
            "",
            f"stackit: stackit {command[0]} needs the plugin mirror in the stackit at {url}, which does not have it: "
            "see enabled in its [plugins.mirror]\n",
        )
    there["left_out"] = [{"name": "mirror", "reason": "ImportError: no git"}]
    assert (await shell("repos", "--admin-url", url)).err.endswith("which does not have it: ImportError: no git\n")
    there["plugins"] = [{"name": "mirror"}]
    assert (await shell("sync", "octo/widget", "--admin-url", url)).err == "stackit: not found\n"
    ran = await shell("recover", "--admin-url", url)
    assert ran.err == f"stackit: the stackit at {url} serves nothing that stackit recover asks for: see its version\n"


@pytest_twisted.ensureDeferred
async def test_the_commands_of_a_plugin_that_is_not_enabled_are_missed_with_the_reason(
    shell: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twistd.conf").write_text("[plugins.mirror]\nenabled = false\n")
    with pytest.raises(SystemExit):
        await shell("sync", "octo/widget")
    assert capsys.readouterr().err.endswith(
        f"stackit: plugin mirror: it is not enabled in {tmp_path / 'twistd.conf'}; its commands are missing\n"
    )
