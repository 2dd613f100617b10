"""What knows the people on the admin side, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stackit.api.address_limiter import AddressLimiter
from stackit.api.admin import Route
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.config.model import Config
from stackit.journal import JournalProtocol
from stackit.secrets.redactor import Redactor
from stackit.web.admin.audit import Audit
from stackit.web.admin.guard import Guard
from stackit.web.sessions.entrance import Entrance
from stackit.web.sessions.pages import LoginWay
from stackit.web.sessions.routes import people_routes
from stackit.web.sessions.sessions import Sessions


class People:
    """Their ``sessions``, the ``audit`` of what they changed, and the ``entrance`` by which they come in."""

    def __init__(
        self,
        config: Config,
        journal: JournalProtocol,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        observe: Callable[[Occurrence], None],
        redact: Redactor,
        node: str,
        guard: Callable[[], Guard],
    ) -> None:
        """``guard`` returns that of the admin side, which is made later; ``node`` is the name of this node."""
        self._reactor = reactor
        self._guard = guard
        self.sessions = Sessions(
            journal,
            reactor=reactor,
            now=now,
            idle=float(config.login.idle),
            absolute=float(config.login.absolute),
            shared=config.fleet.is_configured,
        )
        self.audit = Audit(journal, now=now, observe=observe, redact=redact, reactor=reactor, node=node)
        self.entrance = Entrance(self.sessions, self.audit, guard=guard, now=now)

    def routes(self, ways: Callable[[], Sequence[LoginWay]]) -> list[Route]:
        """Return the routes to log in and out, and of the audit; ``ways`` returns those beside a token."""
        slowdown = AddressLimiter(self._reactor.seconds, burst=10, per_minute=10)
        return people_routes(self.entrance, self.audit, guard=self._guard, slowdown=slowdown, ways=ways)
