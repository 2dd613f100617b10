"""The webhook under a plain ``twisted.web.server.Site``, as one resource among others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted
from rawhttp import Answer, Client, request
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.logger import LogEvent
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from stackit.api.admin import Refused, RequestHead
from stackit.api.events import DeliveryResult, Event
from stackit.api.occurrences import Occurrence
from stackit.github import GitHub
from stackit.testing.deliveries import delivery
from stackit.web.webhook import Webhook, WebhookResource
from stackit.web.webhook_secrets import Secrets

reactor: Any = the_reactor
SECRET = "It's a Secret to Everybody"
GITHUB = GitHub()
PATH = "/hooks/github"
CAP = 200_000


class SitedWebhook:
    """A webhook below ``/hooks`` of a Site. ``answer_take`` finishes what is taken, at once where it is unset."""

    def __init__(self, secrets: list[str]) -> None:
        self.taken: list[Event] = []
        self.seen: list[Occurrence] = []
        self.heads: list[RequestHead] = []
        self.verdict: Refused | None = None
        self.fault: Exception | None = None
        self.waiting: Deferred[None] | None = None
        webhook = Webhook(
            GITHUB,
            secrets=Secrets(GITHUB, secrets, [], print),
            admit=self._admit,
            observe=self.seen.append,
            take=self._take,
            now=lambda: 1.0,
            max_body=CAP,
        )
        self.resource = WebhookResource(webhook)
        root: Any = Resource()
        hooks: Any = Resource()
        root.putChild(b"hooks", hooks)
        hooks.putChild(b"github", self.resource)
        self._site = WrappingFactory(Site(root))
        self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1")
        self.clients: list[Client] = []

    def _admit(self, head: RequestHead) -> Refused | None:
        self.heads.append(head)
        return self.verdict

    def _take(self, event: Event, _: bytes, done: Callable[[DeliveryResult], object]) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append(event)
        result = DeliveryResult(id="1", duplicate=False, handled=True)
        if self.waiting is None:
            done(result)
        else:
            self.waiting.addCallback(lambda _: done(result))

    async def connect(self) -> Client:
        client: Client = await connectProtocol(
            HostnameEndpoint(reactor, "127.0.0.1", self._port.getHost().port), Client()
        )
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        return await (await self.connect()).send(data).answer()

    async def stop(self) -> None:
        for client in self.clients:
            if not client.gone:
                client.transport.abortConnection()
                await client.closed
        await self._port.stopListening()
        for connection in self._site.protocols:
            connection.transport.abortConnection()
        while self._site.protocols:
            await _turn()
        await _turn()  # a connection leaves the list before its HTTP end knows


async def _turn() -> None:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    await turned


@pytest_twisted.async_yield_fixture
async def webhook() -> AsyncIterator[SitedWebhook]:
    made = SitedWebhook([SECRET])
    yield made
    await made.stop()


def sent(payload: Any = None, *, secret: str = SECRET, **headers: str) -> bytes:
    made = delivery("push", payload, secret=secret)
    return request(PATH, headers={**made.headers, **headers}, body=made.body)


def test_it_is_a_resource(webhook: SitedWebhook) -> None:
    assert verifyObject(IResource, webhook.resource)


@pytest_twisted.ensureDeferred
async def test_a_verified_delivery_is_taken(webhook: SitedWebhook) -> None:
    answer = await webhook.ask(sent())
    assert (answer.status, answer.json()) == (202, {"id": "1", "duplicate": False})
    assert answer.headers["content-type"] == "application/json"
    assert [each.name for each in webhook.taken] == ["push"]
    assert [each.name for each in webhook.seen] == ["accepted"]
    (head,) = webhook.heads
    assert (head.client, head.method, head.path) == ("127.0.0.1", b"POST", PATH.encode())
    assert head.headers[b"x-github-event"] == (b"push",)


@pytest_twisted.ensureDeferred
async def test_a_delivery_is_answered_once_it_is_durable_and_the_connection_lives_on(webhook: SitedWebhook) -> None:
    webhook.waiting = Deferred()
    client = await webhook.connect()
    client.send(sent())
    while not webhook.taken:
        await _turn()
    assert not client.received
    webhook.waiting.callback(None)
    assert (await client.answer()).status == 202
    assert (await client.send(sent()).answer()).status == 202


@pytest_twisted.ensureDeferred
async def test_a_form_is_verified_as_it_was_sent(webhook: SitedWebhook) -> None:
    made = delivery("push", secret=SECRET, form=True)
    assert (await webhook.ask(request(PATH, headers=made.headers, body=made.body))).status == 202


@pytest_twisted.ensureDeferred
async def test_a_large_body_and_a_chunked_one_are_verified_in_pieces(webhook: SitedWebhook) -> None:
    made = delivery(
        "push", {"ref": "refs/heads/main", "repository": {"full_name": "o/w"}, "x": "x" * 150_000}, secret=SECRET
    )
    assert (await webhook.ask(request(PATH, headers=made.headers, body=made.body))).status == 202
    head = request(PATH, headers={**made.headers, "Transfer-Encoding": "chunked"})
    assert (await webhook.ask(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(made.body), made.body))).status == 202


@pytest_twisted.ensureDeferred
async def test_a_forged_delivery_is_refused(webhook: SitedWebhook) -> None:
    answer = await webhook.ask(sent(secret="another"))
    assert (answer.status, answer.json()) == (401, {"error": "the signature is missing or wrong"})
    assert [(each.name, each.reason, each.client) for each in webhook.seen] == [("refused", "signature", "127.0.0.1")]
    assert webhook.taken == []


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_cap_is_refused(webhook: SitedWebhook) -> None:
    made = delivery("push", {"x": "x" * CAP}, secret=SECRET)
    assert (await webhook.ask(request(PATH, headers=made.headers, body=made.body))).status == 413
    assert [each.reason for each in webhook.seen] == ["too_large"]
    head = request(PATH, headers={**made.headers, "Transfer-Encoding": "chunked"})
    assert (await webhook.ask(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(made.body), made.body))).status == 413


@pytest_twisted.ensureDeferred
async def test_without_a_secret_it_is_not_there() -> None:
    closed = SitedWebhook([])
    for method in ("POST", "GET", "PUT"):
        assert (await closed.ask(request(PATH, method, body=b"{}"))).status == 404
    assert (await closed.ask(sent())).status == 404
    assert {each.reason for each in closed.seen} == {"no_secret"}
    await closed.stop()


@pytest_twisted.ensureDeferred
async def test_the_rest_of_the_contract_holds_as_well(webhook: SitedWebhook) -> None:
    refused = await webhook.ask(request(PATH, "GET"))
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert (await webhook.ask(sent(**{"Content-Encoding": "gzip"}))).status == 415
    webhook.verdict = Refused(status=429, reason="rate", retry_after=7, unless_verified=True)
    slow_down = await webhook.ask(sent(secret="another"))
    assert (slow_down.status, slow_down.headers["retry-after"]) == (429, "7")
    assert (await webhook.ask(sent())).status == 202
    webhook.verdict = None
    ping = delivery("ping", secret=SECRET)
    answered = await webhook.ask(request(PATH, headers=ping.headers, body=ping.body))
    assert answered.status in (202, 204)


@pytest_twisted.ensureDeferred
async def test_a_failure_costs_one_line_and_says_nothing(webhook: SitedWebhook, logged: list[LogEvent]) -> None:
    webhook.fault = RuntimeError("two\nlines")
    answer = await webhook.ask(sent())
    assert (answer.status, answer.json()) == (500, {"error": "internal error"})
    assert ["RuntimeError: two lines" in str(each["problem"]) for each in logged] == [True]


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_gone_before_its_answer_ends_nothing(
    webhook: SitedWebhook, logged: list[LogEvent]
) -> None:
    webhook.waiting = Deferred()
    client = await webhook.connect()
    client.send(sent())
    while not webhook.taken:
        await _turn()
    client.transport.abortConnection()
    await client.closed
    for _ in range(20):
        await _turn()
    webhook.waiting.callback(None)
    assert (await webhook.ask(sent())).status == 202
    assert logged == []
