"""``twistd stackit``: its options, and the service they make."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.application.service import Service
from twisted.python import usage

from stackit.api.errors import StackitError
from stackit.config.load import load
from stackit.config.model import Config, FileTable
from stackit.config.setting import settings
from stackit.runtime import logs
from stackit.runtime.clocks import use_monotonic_time
from stackit.runtime.gc import freeze_startup_objects
from stackit.service import CannotStart, Stackit, redactor


class Options(usage.Options):
    """The command line. Every option has a setting in the file, most have a variable in the environment."""

    optParameters = (
        ("config", None, None, "TOML file (default: twistd.conf in the current directory, if it is there)."),
        *((each.option, None, None, each.help()) for _, each in settings(FileTable) if each.option),
    )
    optFlags = (("demo", None, "Show stackit at work beside a pretend GitHub: no account, network or configuration."),)

    config: Config | None = None

    def postOptions(self) -> None:
        """Read the configuration. Raises CannotStart."""
        if self["demo"]:
            if self["config"] or self["state-dir"] or self["sync-interval"]:
                raise CannotStart("stackit: --demo brings its own configuration: leave the other options out")
            return
        given = {name.replace("-", "_"): self[name] for name, *_ in self.optParameters}
        try:
            self.config = load(given, os.environ, cwd=Path.cwd())
        except StackitError as problem:
            raise CannotStart(f"stackit: {problem}") from None


def makeService(options: Options) -> Service:
    """Return the service that ``twistd stackit`` runs. Raises CannotStart."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it, which is twistd's to do

    use_monotonic_time(reactor)
    reactor.callWhenRunning(freeze_startup_objects)
    if options.config is None:
        from stackit.demo import Demo  # noqa: PLC0415 - only the demo needs the pretend GitHub

        demo = Demo(reactor, listen=options["listen"], admin_listen=options["admin-listen"])
        return logs.LoggedService(demo, options.parent, "quiet", reactor)
    try:
        service = Stackit(options.config, reactor)
    except StackitError as problem:
        raise CannotStart(redactor(options.config, reactor)(f"stackit: {problem}")) from None
    logged = logs.LoggedService(service, options.parent, options.config.log_format, reactor, service.redact)
    service.dropped_lines = logged.dropped_lines
    return logged
