"""An admin side with people, that listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from admin_server import ECHO, PREFIXES, Answer, Server
from memory_journal import MemoryJournal
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock

from stackit import Occurrence, Route
from stackit.api.address_limiter import AddressLimiter
from stackit.config.login import LoginConfig
from stackit.config.model import AdminConfig, Config
from stackit.text.redaction import redacted
from stackit.web.admin.audit import Audit
from stackit.web.admin.rules import ProblemPage
from stackit.web.admin.site import AdminSite, ClientOf, admin_site
from stackit.web.sessions.entrance import Entrance
from stackit.web.sessions.routes import people_routes
from stackit.web.sessions.sessions import Sessions

TOKEN = "the-token-of-operators"


class People:
    """A running admin side: ``site``, its ``sessions`` and ``audit``, and ``seen``, the occurrences."""

    def __init__(self, server: Server, site: AdminSite, sessions: Sessions, audit: Audit, entrance: Entrance) -> None:
        self.server = server
        self.site = site
        self.sessions = sessions
        self.audit = audit
        self.entrance = entrance
        self.seen: list[Occurrence] = []
        self.clock = Clock()

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.server.port}"

    async def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> Answer:
        return await self.server.ask(method, path, *headers, host=f"localhost:{self.server.port}", body=body)

    async def post(self, path: str, body: str, *headers: str, origin: str | None = "") -> Answer:
        """Send a form; its ``origin`` is that of this side ("") unless it is said, and None for none."""
        told = [] if origin is None else [f"Origin: {origin or self.origin}"]
        kind = "Content-Type: application/x-www-form-urlencoded"
        return await self.ask("POST", path, kind, *told, *headers, body=body.encode())

    async def log_in(self, token: str = TOKEN, following: str = "/") -> Answer:
        return await self.post("/login", f"token={token}&next={following}")

    async def cookie(self) -> str:
        """Log in, and return the header of the cookie."""
        answer = await self.log_in()
        assert answer.status == 303, answer
        return f"Cookie: {answer.headers['set-cookie'].partition(';')[0]}"

    @property
    def deeds(self) -> list[tuple[str, str, str, int]]:
        """The occurrences of the audit: who, what, for what, and the status."""
        return [(str(e.by), str(e.action), str(e.target), int(e.status or 0)) for e in self.seen if e.name == "audit"]


Serve = Callable[..., Awaitable[People]]


@pytest_twisted.async_yield_fixture
async def people() -> AsyncIterator[Serve]:
    """Starts admin sides: ``await people(login=…, token_file=…, url=…, hosts=…, routes=…, journal=…)``.

    One that is ``shared`` is a node's, whose journal others use, too.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ports: list[Any] = []
    sites: list[AdminSite] = []
    started: list[People] = []

    async def start(
        *,
        login: LoginConfig = LoginConfig(),  # noqa: B008 - it is frozen
        token_file: Path | None = None,
        url: str | None = None,
        hosts: Sequence[str] = (),
        routes: Sequence[Route] = tuple(ECHO),
        journal: MemoryJournal | None = None,
        client_of: ClientOf = lambda _: None,
        problem_page: ProblemPage | None = None,
        shared: bool = False,
        node: str = "",
        **settings: Any,
    ) -> People:
        files = () if token_file is None else (token_file,)
        admin = AdminConfig(token_files=files, url=url, hosts=tuple(hosts))
        config = Config(state_dir=Path("unused"), api_prefixes=PREFIXES, admin=admin, login=login, **settings)
        clock = Clock()
        clock.advance(1_000_000.0)
        seen: list[Occurrence] = []
        kept = MemoryJournal(reactor) if journal is None else journal
        sessions = Sessions(
            kept,
            reactor=reactor if shared else clock,
            now=clock.seconds,
            idle=float(login.idle),
            absolute=float(login.absolute),
            shared=shared,
        )
        audit = Audit(kept, now=clock.seconds, observe=seen.append, redact=redacted, reactor=reactor, node=node)
        sessions.load()
        if shared:
            sessions.start()
        audit.load()
        entrance = Entrance(sessions, audit, guard=lambda: site.guard, now=clock.seconds)
        own = people_routes(
            entrance,
            audit,
            guard=lambda: site.guard,
            slowdown=AddressLimiter(clock.seconds, burst=10, per_minute=10),
        )
        site = admin_site(
            config,
            [*routes, *own],
            reactor,
            sessions=sessions,
            note=audit.note,
            client_of=client_of,
            problem_page=problem_page,
        )
        # However long the requests of a test take.
        site._admin._slowdown = AddressLimiter(clock.seconds, burst=30, per_minute=30)
        sites.append(site)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        ports.append(port)
        found = People(Server(reactor, port.getHost().port), site, sessions, audit, entrance)
        found.clock, found.seen = clock, seen
        started.append(found)
        return found

    yield start
    for port in ports:
        await port.stopListening()
    for site in sites:
        await site.wind_down(5)
    for each in started:
        await each.sessions.stop()
        await each.audit.stop()


@pytest.fixture
def journal() -> MemoryJournal:
    """A journal that several admin sides may use, one after the other."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return MemoryJournal(reactor)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the bearer token of operators."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return file
