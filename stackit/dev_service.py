"""The process of ``stackit dev``: a stackit with one plugin of a person's own, as ``twistd`` would run it."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
from twisted.application.service import ServiceMaker
from twisted.scripts import twistd

from stackit import tap
from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo
from stackit.config.model import AdminConfig, Config, WebhookConfig
from stackit.dev.plan import Plan
from stackit.text.units import Duration

_GRACE = Duration(1)


def configuration(plan: Plan) -> Config:
    """Return the configuration: of all plugins only the bundled ones are there, and the one in hand."""
    others = {
        point.name for point in entry_points(group="stackit") if not point.value.startswith("stackit.plugins.")
    } - {plan.plugin}
    return Config(
        state_dir=Path(plan.state_dir),
        listen=plan.listen,
        admin=AdminConfig(listen=plan.admin_listen),
        webhook=WebhookConfig(secret_files=(Path(plan.secret_file),)),
        grace=_GRACE,
        repos=(ManagedRepo(repo=Repo.parse(plan.repo), url=plan.url),),
        plugins={**{name: {"enabled": False} for name in others}, plan.plugin: plan.table},
        source=None if plan.config is None else Path(plan.config),
    )


def main() -> None:
    """Run the plan in the file that the command line names."""
    options: Any = tap.Options()  # type: ignore[no-untyped-call]  # twisted.python.usage is not typed
    plan = Path(sys.argv[1])
    options.load = lambda: configuration(msgspec.json.decode(plan.read_bytes(), type=Plan))
    options.config = options.load()
    server: Any = twistd.ServerOptions()  # type: ignore[attr-defined, no-untyped-call]  # it is Twisted's
    server.parseOptions(["--nodaemon", "--pidfile="])
    server["no_save"] = True
    options.parent = server
    # What twistd's own command line would have made of "stackit".
    server.subCommand, server.subOptions = "stackit", options
    server.loadedPlugins = {"stackit": ServiceMaker("stackit", "stackit.tap", "", "stackit")}
    twistd.runApp(server)


if __name__ == "__main__":
    main()
