"""``stackit app``: the set-up of a GitHub App."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError
from stackit.api.reactor import sleep

_EVERY = 1.0
"""Seconds between two questions whether the browser is done."""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", choices=("create",), help="create: make a GitHub App in a browser")
    parser.add_argument(
        "--organization", "--organisation", metavar="ORG", help="the organization that the App belongs to, else you"
    )
    parser.add_argument("--name", metavar="NAME", help="its name, in the configuration too: stackit")
    parser.add_argument("--api-url", metavar="URL", help="the API of another GitHub, as https://HOST/api/v3")
    parser.add_argument("--manage-hooks", action="store_true", help="with the permissions to change webhooks")
    parser.add_argument("--no-wait", action="store_true", help="print the address for the browser, and end")


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {
        "organization": options.organization,
        "name": options.name,
        "api_url": options.api_url,
        "hooks": "true" if options.manage_hooks else None,
    }
    opened = await shell.admin.ask("POST", "/setup/app", {key: each for key, each in query.items() if each is not None})
    if options.no_wait or not options.json:
        shell.printer.show(
            opened,
            f"open this in a browser, before {opened['open_until']}; from another machine, have its port brought here "
            f"(ssh -L) if it is on loopback:\n{opened['url']}",
        )
    if options.no_wait:
        return
    outcome = await _outcome(shell, opened)
    if outcome["state"] != "done":
        raise StackitError(outcome.get("problem") or "the time is over, and no App was made")
    place = f"{outcome['directory']} at node {outcome['node']}" if "node" in outcome else str(outcome["directory"])
    everywhere = "bring them to all nodes, then put" if "node" in outcome else "put"
    shell.printer.show(
        outcome,
        f"\nthe App {outcome['app']} of {outcome['owner']} is made, and its secrets are in {place}; {everywhere} "
        f"this into the configuration, and reload it:\n\n{outcome['toml']}\nthen install the App: "
        f"{outcome['install_url']}",
    )


async def _outcome(shell: Shell, opened: Any) -> Any:
    """Wait until the browser is done, or the time is over."""
    query = {"setup": opened["setup"]} if "setup" in opened else {}
    while True:
        outcome = await shell.admin.ask("GET", "/setup/app", query)
        if outcome["state"] != "open":
            return outcome
        await sleep(shell.reactor, _EVERY)


COMMAND = Command(
    name="app",
    help="Make a GitHub App for stackit, in a browser.",
    run=_run,
    arguments=_arguments,
    example="stackit app create --organization octo",
)
