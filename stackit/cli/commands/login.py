"""``stackit login`` and ``stackit logout``: who one is at the admin side, for the commands from then on."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any, cast

from stackit.api.commands import Command, Shell
from stackit.api.errors import ConfigError, NotFoundError, StackitError
from stackit.api.reactor import sleep
from stackit.cli.client import HTTPAdminClient, file_token
from stackit.cli.login_file import KeptLogin, LoginFile

_LONGEST_PAUSE = 60.0


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--no-keep", action="store_true", help="print the token, and keep it nowhere")


async def _log_in(shell: Shell) -> None:
    if shell.options.token_file is not None:
        await _keep_token(shell)
        return
    begun = await shell.admin.ask("POST", "/login/device")
    shown = {key: begun[key] for key in ("user_code", "verification_uri", "expires_at")}
    shell.printer.show(
        shown, f"open {begun['verification_uri']} in a browser, and enter the code {begun['user_code']}\nwaiting …"
    )
    done = await _outcome(shell, begun)
    file = LoginFile(shell.environ)
    told = {key: done[key] for key in ("name", "role", "ends_at")}
    if shell.options.no_keep:
        shell.printer.show(told | {"token": done["token"]}, str(done["token"]))
        return
    file.put(_url(shell), KeptLogin(token=done["token"], name=done["name"]))
    shell.printer.show(told, f"logged in as {done['name']}, as {done['role']}, until {done['ends_at']} at the latest")


async def _outcome(shell: Shell, begun: Any) -> Any:
    """Wait until somebody has entered the code."""
    pause = float(begun["interval"])
    while True:
        await sleep(shell.reactor, min(pause, _LONGEST_PAUSE))
        try:
            found = await shell.admin.ask("POST", "/login/device/poll", body={"device": begun["device"]})
        except NotFoundError:
            raise StackitError("the time for the code is over: log in again") from None
        if found["state"] == "done":
            return found
        pause = float(found["interval"])


async def _keep_token(shell: Shell) -> None:
    """Keep a bearer token, if stackit takes it."""
    token = file_token(shell.options.token_file, Path(shell.cwd))
    await shell.admin.ask("GET", "/status")
    LoginFile(shell.environ).put(_url(shell), KeptLogin(token=token.text, name=token.origin))
    shell.printer.show({"url": _url(shell)}, f"the token is kept for {_url(shell)}")


async def _log_out(shell: Shell) -> None:
    file, url = LoginFile(shell.environ), _url(shell)
    if shell.options.token_file is not None or shell.environ.get("STACKIT_API_TOKEN", "").strip():
        raise ConfigError("leave out --token-file and STACKIT_API_TOKEN: a logout ends what a login began")
    if file.get(url) is None:
        raise StackitError(f"there is no login at {url}")
    try:
        asking = await shell.admin.ask("GET", "/session")
        if asking["logged_in"]:  # a bearer token that was kept stays valid
            await shell.admin.ask("DELETE", "/session")
    finally:
        file.put(url, None)  # also where stackit does not answer, or has ended it long since
    shell.printer.show({"url": url}, f"logged out at {url}")


def _url(shell: Shell) -> str:
    return cast("HTTPAdminClient", shell.admin).url


LOGIN = Command(
    name="login",
    help="Log in with GitHub, or keep the token of --token-file, for commands to come.",
    run=_log_in,
    arguments=_arguments,
    example="stackit login\nstackit login --admin-url https://admin.example.org",
)
LOGOUT = Command(name="logout", help="End the login.", run=_log_out, example="stackit logout")
COMMANDS = (LOGIN, LOGOUT)
