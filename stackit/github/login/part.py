"""The login with GitHub as one part of the service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.nodes import Alone, Nodes
from stackit.api.peers import Affinity, NoAffinity
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps
from stackit.github.login.admission import Admission
from stackit.github.login.browser import BrowserLogin
from stackit.github.login.code_page import CodeLogin
from stackit.github.login.device_flow import DeviceFlow
from stackit.github.login.entrance import Entrance
from stackit.github.login.events import LoginEvents
from stackit.github.login.login_key import LoginKey
from stackit.github.login.membership import Membership
from stackit.github.login.pages import CODE, LoginPages
from stackit.github.login.pins import Pins
from stackit.github.login.roles import Roles
from stackit.github.login.shell import ShellLogin
from stackit.journal import JournalProtocol


class LoginPart:
    """The login with GitHub. ``config`` returns the configuration of now, ``entrance`` has the sessions."""

    name = "login"
    settings: Sequence[str] = ("login.viewers", "login.operators", "login.app", "apps")

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        reactor: Reactor,
        now: Callable[[], float],
        apps: Apps,
        clients: ApiClients,
        journal: JournalProtocol,
        entrance: Entrance,
        notice: Callable[[str], None],
        stylesheet: str = "",
        nodes: Nodes = Alone(),  # noqa: B008 - it has no state
        affinity: Affinity = NoAffinity(),  # noqa: B008 - it has no state
    ) -> None:
        """``stylesheet`` is the path of that of the admin side."""
        self._reactor = reactor
        self._pins = pins = Pins(journal, reactor)
        membership = Membership(clients, pins, notice)
        self._admission = admission = Admission(
            config,
            now=now,
            seconds=reactor.seconds,
            apps=apps,
            clients=clients,
            membership=membership,
            entrance=entrance,
            notice=notice,
            pages=LoginPages(stylesheet),
        )
        self._key = LoginKey(journal, nodes, reactor)
        self.browser = BrowserLogin(admission, now, lambda: self._key.value)
        self._flow = flow = DeviceFlow(admission, reactor.seconds, affinity, in_fleet=bool(nodes.here))
        self.code = CodeLogin(admission, flow)
        self.shell = ShellLogin(admission, flow, now)
        self.roles = Roles(
            entrance.sessions,
            membership,
            pins,
            apps,
            config=config,
            reactor=reactor,
            now=now,
            notice=notice,
            leads=nodes.leads,
        )
        self._wants_events = config().login.app is not None

    def start(self) -> None:
        """Look up the roles of those who were logged in before."""
        self._key.start()
        self.roles.start()

    async def stop(self) -> None:
        """Look up no more roles."""
        await self.roles.stop()
        await self._pins.stop()
        await self._key.stop()

    def status(self) -> Any:
        """Return the App by which people log in, and what could not be asked at the last look at their roles."""
        app = self._admission.app()
        return {"app": None if app is None else app.name, "problems": list(self.roles.problems)}

    def problems(self) -> Sequence[str]:
        """Return none: stackit takes deliveries all the same."""
        return ()

    def collectors(self) -> Sequence[Collector]:
        """Return none."""
        return ()

    def plugin(self) -> object | None:
        """Return what is told of events of people."""
        return LoginEvents(self.roles, self._admission.app) if self._wants_events else None

    def change(self, _: Config) -> Callable[[], None]:
        """Return what looks up the roles of everybody, by the configuration that holds a moment later."""

        def look() -> None:
            self._reactor.callLater(0, self.roles.look_at_everybody)

        return look

    def routes(self) -> Sequence[Route]:
        """Return the routes of browsers, of shells, and of other nodes."""
        return [*self.browser.routes(), *self.code.routes(), *self.shell.routes(), *self._flow.routes()]

    def ways(self) -> dict[str, str]:
        """Return the ways to log in by a browser: what they are called, and their addresses, which take ``next``."""
        if self._admission.app() is None:
            return {}
        button = self.browser.button
        return {"Log in with GitHub": button} if button is not None else {"Log in with GitHub, by a code": CODE}
