"""``twistd stackit``: its options, and the service they make."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.python import usage

from stackit.api.errors import StackitError
from stackit.config.load import load
from stackit.config.model import Config, FileTable
from stackit.config.redactor import redactor
from stackit.config.setting import settings
from stackit.runtime import logs
from stackit.runtime.cannot_start import CannotStart, cannot_start
from stackit.runtime.clocks import use_monotonic_time
from stackit.runtime.gc import freeze_startup_objects
from stackit.runtime.log_levels import LogLevels
from stackit.runtime.python_logging import LoggingBridge
from stackit.runtime.room import check_pid_file
from stackit.runtime.signals import Hangups, ignore_hangups
from stackit.runtime.thread_pool import keep_threads
from stackit.service import Stackit
from stackit.service.ports import handed_over


class Options(usage.Options):
    """The command line. Every option has a setting in the file, most have a variable in the environment."""

    optParameters = (
        ("config", None, None, "TOML file (default: twistd.conf in the current directory, if it is there)."),
        *((each.option, None, None, each.help()) for _, each in settings(FileTable) if each.option),
    )
    optFlags = (("demo", None, "Show stackit at work beside a pretend GitHub: no account, network or configuration."),)

    config: Config | None = None
    load: Callable[[], Config]

    def postOptions(self) -> None:
        """Read the configuration. Raises CannotStart."""
        ignore_hangups()  # a reload that comes now has nothing to reload yet
        if self["demo"]:
            if self["config"] or self["state-dir"] or self["sync-interval"]:
                raise CannotStart("stackit: --demo brings its own configuration: leave the other options out")
            return
        given = {name.replace("-", "_"): self[name] for name, *_ in self.optParameters}
        # A daemon changes its directory after this, and a reload shall mean the same by the same words.
        self.load = partial(load, given, os.environ, cwd=Path.cwd())
        try:
            self.config = self.load()
        except StackitError as problem:
            raise CannotStart(f"stackit: {problem}") from None


def makeService(options: Options) -> Service:
    """Return the service that ``twistd stackit`` runs. Raises CannotStart."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it, which is twistd's to do

    twistd: Mapping[str, Any] = options.parent or {}
    try:
        check_pid_file(twistd.get("pidfile") or "")
    except StackitError as problem:
        raise CannotStart(f"stackit: {problem}") from None
    use_monotonic_time(reactor)
    keep_threads(reactor)
    hangups = Hangups(reactor)
    reactor.callWhenRunning(freeze_startup_objects)
    if options.config is None:
        from stackit.demo.service import Demo  # noqa: PLC0415 - only the demo needs the pretend GitHub

        demo = Demo(reactor, listen=options["listen"], admin_listen=options["admin-listen"])
        # It has nothing to reload, and nobody to show it to when its terminal is closed.
        hangups.call(partial(os.kill, os.getpid(), signal.SIGTERM))
        return logs.LoggedService(demo, options.parent, "quiet", reactor)
    config = options.config
    levels = LogLevels(config.log_level)
    redact = redactor(config, reactor)  # one for all: it learns the secrets of plugins
    bridge = None
    if not twistd.get("logger"):  # an operator's own may lead to ``logging``, and round in a circle
        bridge = LoggingBridge(redact)
        bridge.install(levels.lowest_number())  # before a plugin is imported
    try:
        service = Stackit(config, reactor, sockets=handed_over(), redact=redact)
    except StackitError as problem:
        if bridge is not None:
            bridge.remove()
        raise cannot_start(problem, redact) from None
    logged = logs.LoggedService(
        service, options.parent, config.log_format, reactor, service.redact, levels=levels, bridge=bridge
    )
    service.dropped_lines = logged.dropped_lines
    service.set_log_level = logged.set_level
    hangups.call(partial(service.reload, options.load))
    return logged
