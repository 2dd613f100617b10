"""stackit's own commands, one file for each; ``COMMANDS`` lists them in the order of the help."""

from __future__ import annotations

from stackit.cli.commands import (
    app,
    backup,
    check_config,
    completion,
    deliveries,
    delivery,
    dev,
    discover,
    fleet,
    hook,
    journal,
    login,
    plugins,
    recover,
    replay,
    send,
    status,
    tail,
)

COMMANDS = (
    status.COMMAND,
    deliveries.COMMAND,
    delivery.COMMAND,
    tail.COMMAND,
    replay.COMMAND,
    *plugins.COMMANDS,
    fleet.COMMAND,
    recover.COMMAND,
    *login.COMMANDS,
    app.COMMAND,
    hook.COMMAND,
    discover.COMMAND,
    send.COMMAND,
    dev.COMMAND,
    check_config.COMMAND,
    *backup.COMMANDS,
    journal.COMMAND,
    completion.COMMAND,
)
