"""``stackit dev``: run a plugin while it is being written."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial

from stackit.api.commands import Command, Shell
from stackit.dev.plan import PluginFile

# The test kit, and what needs it, are imported where they are used: stackit itself knows of this command, too.


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("plugin", metavar="FILE[:OBJECT]", help="the plugin, as in file = of its table")
    parser.add_argument(
        "--event",
        metavar="EVENT[.ACTION]",
        action="append",
        default=[],
        help="send it at each start; may be repeated",
    )


def _check(options: Namespace) -> None:
    from stackit.testing import payload_for  # noqa: PLC0415 - see above

    for event in options.event:
        name, _, action = event.partition(".")
        payload_for(name, action or None)


async def _run(shell: Shell) -> None:
    from stackit.dev.supervisor import DevServer  # noqa: PLC0415 - see above

    options = shell.options
    plugin = PluginFile.of(options.plugin, options.config, shell.environ, shell.cwd)
    plugin.table()
    say = partial(print, flush=True)  # between the lines of the child's log
    await DevServer(shell.reactor, plugin, options.event, shell.environ, say).run()


COMMAND = Command(
    name="dev",
    help="Run a plugin while you write it: each save starts it again.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit dev diary.py\nstackit dev diary.py:Diary --event push --event issues.opened",
)
