"""The webhook endpoint, row by row of its contract, over real sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from clocks import as_reactor
from rawhttp import Answer, Client, Listening, request
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from stackit.api.admin import Refused, RequestHead
from stackit.api.errors import JournalError
from stackit.api.events import DeliveryResult, Event, Push, Repo
from stackit.api.occurrences import Occurrence
from stackit.config.load import load
from stackit.github import GitHub
from stackit.github.scopes import speaks_for
from stackit.plugins.ratelimit import RateLimit
from stackit.runtime.listen import address, listen
from stackit.testing.catalogue import EVENTS, payload_for
from stackit.testing.deliveries import delivery
from stackit.web.public import public_site
from stackit.web.webhook_secrets import Secrets

PATH = "/api/v1/webhooks/github"
SECRET = "It's a Secret to Everybody"
UNSIGNED = {"error": "the signature is missing or wrong"}


class Harness(Listening):
    """The public side with a journal that is a list. ``handled`` are the events that some plugin handles."""

    def __init__(
        self,
        clock: Clock,
        secrets: list[str],
        directory: Path,
        scoped: Mapping[Path, Sequence[str]] | None = None,
        *,
        receives: bool = True,
    ) -> None:
        self.taken: list[tuple[Event, bytes]] = []
        self.handled = {"push", "issues"}
        self.fault: Exception | None = None
        self.wait: Deferred[None] | None = None
        self.verdict: Refused | None = None
        self.heads: list[RequestHead] = []
        seen: list[Occurrence] = []
        self.stuck: list[str] = []
        self.closed = False
        config = load({}, {"STACKIT_STATE_DIR": str(directory)}, cwd=directory)
        github = GitHub(config.webhook.content_type)
        site = public_site(
            config,
            forges=[(github, Secrets(github, secrets, [], print, scoped or {}))],
            speaks_for=speaks_for,
            admit=self._admit,
            observe=seen.append,
            take=self._take_soon,
            reactor=as_reactor(clock),
            now=clock.seconds,
            stuck=lambda: self.stuck,
            receives=receives,
            is_closed=lambda: self.closed,
        )
        super().__init__(reactor, site, seen)

    def _admit(self, head: RequestHead) -> Refused | None:
        self.heads.append(head)
        return self.verdict

    def _take_soon(self, event: Event, digest: bytes, done: Callable[[DeliveryResult | Failure], object]) -> None:
        Deferred.fromCoroutine(self._take(event, digest)).addBoth(done)

    async def _take(self, event: Event, digest: bytes) -> DeliveryResult:
        if self.wait is not None:
            await self.wait
        if self.fault is not None:
            raise self.fault
        duplicate = any((event.hook, event.delivery) == (old.hook, old.delivery) for old, _ in self.taken)
        self.taken.append((event, digest))
        return DeliveryResult(id=str(len(self.taken)), duplicate=duplicate, handled=event.name in self.handled)

    async def deliver(self, event: str = "push", payload: Any = None, /, **changes: Any) -> Answer:
        """A delivery as GitHub makes it, with some headers replaced (None takes one away)."""
        headers = changes.pop("headers", {})
        made = delivery(event, payload, secret=changes.pop("secret", SECRET), **changes)
        sent = {name: value for name, value in {**made.headers, **headers}.items() if value is not None}
        return await self.ask(request(PATH, headers=sent, body=made.body))


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_000_000)
    return clock


@pytest_twisted.async_yield_fixture
async def harness(clock: Clock, tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness(clock, [SECRET], tmp_path)
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def closed_harness(clock: Clock, tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness(clock, ["", "  \n"], tmp_path)
    yield made
    await made.stop()


@pytest.fixture(autouse=True)
def quiet(logged: list[LogEvent]) -> Iterator[list[LogEvent]]:
    """Nothing that a stranger sends is worth a line beside the observers' own; a test may take out what is."""
    yield logged
    assert logged == []


GITHUB = GitHub()
METHODS = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"]


def signed(body: bytes, secret: str = SECRET, **headers: str) -> bytes:
    digits = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    found = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={digits}", **headers}
    return request(PATH, headers=found, body=body)


def undated(answer: bytes) -> list[bytes]:
    """The lines of an answer, but for the time."""
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"Date: ")]


# -- what is let in


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_has_its_fingerprint_again_and_another_has_another(harness: Harness) -> None:
    for body in (b'{"repository":{"full_name":"o/w"}}', b'{"repository":{"full_name":"o/w"}} '):
        for delivery_id in ("a", "b"):
            await harness.ask(signed(body, **{"X-GitHub-Delivery": delivery_id}))
    first, again, other, other_again = (fingerprint for _, fingerprint in harness.taken)
    assert first == again != other == other_again


@pytest_twisted.ensureDeferred
async def test_a_push_is_taken_and_answered_with_its_id(harness: Harness, clock: Clock) -> None:
    made = delivery("push", secret=SECRET, hook_id=42)
    answer = await harness.ask(request(PATH, headers=made.headers, body=made.body))
    assert (answer.status, answer.json()) == (202, {"id": "1", "duplicate": False})
    assert answer.headers["content-type"] == "application/json"
    ((event, fingerprint),) = harness.taken
    assert isinstance(event, Push)
    assert (event.delivery, event.hook, event.received_at) == (made.guid, "42", clock.seconds())
    assert event.repo == Repo("octo", "widget")
    assert event.body == made.body
    assert len(fingerprint) == 32
    (seen,) = harness.seen
    assert (seen.name, seen.event, seen.outcome, seen.id) == ("accepted", "push", "queued", "1")
    assert (seen.delivery, seen.repo, seen.verified_by) == (made.guid, event.repo, "STACKIT_GITHUB_WEBHOOK_SECRET")


@pytest.mark.parametrize("prefix", ["/api/v1", "/api"])
@pytest_twisted.ensureDeferred
async def test_every_api_prefix_has_the_endpoint(harness: Harness, prefix: str) -> None:
    made = delivery("push", secret=SECRET)
    answer = await harness.ask(request(f"{prefix}/webhooks/github", headers=made.headers, body=made.body))
    assert answer.status == 202


@pytest.mark.parametrize("event", [each for each in EVENTS if each != "ping"])
@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
@pytest_twisted.ensureDeferred
async def test_every_documented_event_is_taken_as_what_it_is(harness: Harness, event: str, form: bool) -> None:
    harness.handled = {event}
    assert (await harness.deliver(event, form=form)).status == 202
    ((taken, _),) = harness.taken
    assert (taken.name, taken.payload) == (event, payload_for(event))


@pytest_twisted.ensureDeferred
async def test_a_push_that_no_plugin_handles_is_taken_all_the_same(harness: Harness) -> None:
    harness.handled = set()
    assert (await harness.deliver()).status == 202
    assert harness.seen[0].outcome == "unhandled"


@pytest_twisted.ensureDeferred
async def test_a_delivery_to_an_absolute_address_is_taken(harness: Harness) -> None:
    made = delivery("push", secret=SECRET)
    data = request(f"https://hooks.example.org{PATH}", headers=made.headers, body=made.body)
    assert (await harness.ask(data)).status == 202


@pytest_twisted.ensureDeferred
async def test_a_sender_that_closes_its_half_learns_that_it_is_durable(harness: Harness) -> None:
    harness.wait = Deferred()
    made = delivery("push", secret=SECRET)
    client = await harness.connect()
    client.send(request(PATH, headers=made.headers, body=made.body)).transport.loseWriteConnection()
    for _ in range(3):
        await harness.ask(request("/healthz", "GET"))
    harness.wait.callback(None)
    assert (await client.answer()).status == 202


@pytest_twisted.ensureDeferred
async def test_a_duplicate_says_so(harness: Harness) -> None:
    await harness.deliver(guid="same")
    answer = await harness.deliver(guid="same")
    assert (answer.status, answer.json()) == (202, {"id": "2", "duplicate": True})
    assert [each.name for each in harness.seen] == ["accepted", "duplicate"]


@pytest_twisted.ensureDeferred
async def test_an_event_that_no_plugin_handles_is_taken_without_a_word(harness: Harness) -> None:
    answer = await harness.deliver("star")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert harness.taken
    assert (harness.seen[0].event, harness.seen[0].outcome) == ("star", "unhandled")


@pytest_twisted.ensureDeferred
async def test_a_ping_is_recorded_and_answered_204(harness: Harness) -> None:
    assert (await harness.deliver("ping")).status == 204
    assert [event.name for event, _ in harness.taken] == ["ping"]
    assert [(each.name, each.event, each.outcome) for each in harness.seen] == [("accepted", "ping", "ping")]


@pytest.mark.parametrize(
    ("event", "payload", "headers"),
    [
        ("push", {"ref": "refs/heads/main"}, {}),
        ("push", {"repository": {"full_name": "../x"}}, {}),
        ("push", b"\xff\xfe", {}),
        ("push", b"", {}),
        ("push", b"[" * 100_000, {}),
        ("pull_request", payload_for("issues"), {}),
        ("push", None, {"X-GitHub-Event": None}),
        ("push", None, {"X-GitHub-Event": "push push"}),
        ("push", None, {"X-GitHub-Event": "é\x80"}),
        ("push", None, {"X-GitHub-Event": "x" * 5000}),
        ("push", None, {"Content-Type": "text/plain"}),
        ("push", None, {"Content-Type": "application/x-www-form-urlencoded"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_signed_body_that_is_no_event_is_counted_and_forgotten(
    harness: Harness, event: str, payload: Any, headers: dict[str, str]
) -> None:
    answer = await harness.deliver(event, payload, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert harness.taken == []
    (seen,) = harness.seen
    assert (seen.name, seen.event, seen.outcome) == ("accepted", None, "unrecognised")
    assert (await harness.deliver()).status == 202


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X-GitHub-Event": None}, "event_name"),
        ({"Content-Type": "text/plain"}, "content_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "content_type"),
        ({"X-GitHub-Event": "release"}, "shape"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_with_a_signed_body_is_told(harness: Harness, headers: dict[str, str], reason: str) -> None:
    assert (await harness.deliver(headers=headers)).status == 204
    assert [(each.outcome, each.reason) for each in harness.seen] == [("unrecognised", reason)]


@pytest.mark.parametrize("form", [False, True])
@pytest_twisted.ensureDeferred
async def test_who_has_seen_one_delivery_can_forge_no_other_event(harness: Harness, form: bool) -> None:
    """The content type is not signed: a body is one thing, whatever it is said to be."""
    harness.handled = {"push", "release"}
    forged = urlencode({"payload": json.dumps(payload_for("release", repo="victim/main"))})
    payload = {**payload_for("push"), "ref": f"refs/heads/x&{forged}&y"}
    for kind in ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; a=b", "application/json"):
        headers = {"Content-Type": kind, "X-GitHub-Event": "release"}
        assert (await harness.deliver("push", payload, form=form, headers=headers)).status == 204
    assert harness.taken == []


@pytest.mark.parametrize("kind", ["json", "form"])
@pytest_twisted.ensureDeferred
async def test_only_the_content_type_that_hooks_use_may_be_taken(clock: Clock, tmp_path: Path, kind: str) -> None:
    tmp_path.joinpath("twistd.conf").write_text(f'[webhook]\ncontent_type = "{kind}"\n')
    harness = Harness(clock, [SECRET], tmp_path)
    assert (await harness.deliver(form=kind == "form")).status == 202
    assert (await harness.deliver(form=kind == "json")).status == 204
    assert len(harness.taken) == 1
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_body_without_a_content_type_is_json(harness: Harness) -> None:
    assert (await harness.deliver(headers={"Content-Type": None})).status == 202


@pytest_twisted.ensureDeferred
async def test_an_event_named_twice_is_none(harness: Harness) -> None:
    body = json.dumps(payload_for("push")).encode()
    data = signed(body).replace(b"Host: test\r\n", b"Host: test\r\nX-GitHub-Event: push\r\n")
    assert (await harness.ask(data)).status == 204


@pytest.mark.parametrize("guid", [None, "", "a b", "x" * 65, "é", "../x", "a,b"])
@pytest_twisted.ensureDeferred
async def test_a_delivery_id_that_cannot_be_believed_is_replaced(harness: Harness, guid: str | None) -> None:
    for _ in range(2):
        answer = await harness.deliver(headers={"X-GitHub-Delivery": guid, "X-GitHub-Hook-ID": "nonsense"})
        assert answer.json()["duplicate"] is False
    for event, _ in harness.taken:
        assert event.delivery.startswith("stackit-")
        assert event.hook == ""


@pytest_twisted.ensureDeferred
async def test_a_chunked_delivery_is_taken(harness: Harness) -> None:
    made = delivery("push", secret=SECRET)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (made.body[:7], made.body[7:]))
    head = request(PATH, headers={**made.headers, "Transfer-Encoding": "chunked"})
    assert (await harness.ask(head + chunks + b"0\r\n\r\n")).status == 202


@pytest_twisted.ensureDeferred
async def test_a_trailer_is_no_header(harness: Harness) -> None:
    """What stands behind the body was not there when the head was judged."""
    made = delivery("push", secret=SECRET)
    headers = {name: value for name, value in made.headers.items() if name != "X-GitHub-Event"}
    head = request(PATH, headers={**headers, "Transfer-Encoding": "chunked"})
    chunks = b"%x\r\n%s\r\n0\r\nX-GitHub-Event: push\r\n\r\n" % (len(made.body), made.body)
    assert (await harness.ask(head + chunks)).status == 204
    assert harness.taken == []


@pytest_twisted.ensureDeferred
async def test_a_body_in_the_smallest_chunks_is_taken_whole(harness: Harness) -> None:
    made = delivery("push", secret=SECRET)
    head = request(PATH, headers={**made.headers, "Transfer-Encoding": "chunked"})
    chunks = b"".join(b"1\r\n%c\r\n" % letter for letter in made.body)
    assert (await harness.ask(head + chunks + b"0\r\n\r\n")).status == 202
    assert harness.taken[0][0].body == made.body


@pytest_twisted.ensureDeferred
async def test_a_delivery_whose_sender_is_gone_is_taken_quietly(harness: Harness) -> None:
    harness.wait = Deferred()
    made = delivery("push", secret=SECRET)
    client = await harness.connect()
    client.send(request(PATH, headers=made.headers, body=made.body))
    (await harness.ask(request("/healthz", "GET"))).json()
    client.transport.abortConnection()
    await client.closed
    await harness.ask(request("/healthz", "GET"))
    harness.wait.callback(None)
    assert len(harness.taken) == 1


# -- what is not


@pytest.mark.parametrize("method", ["POST", *METHODS])
@pytest_twisted.ensureDeferred
async def test_without_a_secret_the_endpoint_is_a_path_like_any_other(closed_harness: Harness, method: str) -> None:
    made = delivery("push", secret="")
    for body in (made.body, None):
        client, other = await closed_harness.connect(), await closed_harness.connect()
        client.send(request(PATH, method, {**made.headers, "Connection": "close"}, body))
        other.send(request("/nowhere", method, {**made.headers, "Connection": "close"}, body))
        answer, unknown = await client.end(), await other.end()
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert undated(answer) == undated(unknown)
    assert closed_harness.reasons.count("no_secret") == closed_harness.reasons.count("not_found") == 2
    assert (closed_harness.taken, closed_harness.heads) == ([], [])


@pytest.mark.parametrize("method", METHODS)
@pytest_twisted.ensureDeferred
async def test_only_post_is_answered(harness: Harness, method: str) -> None:
    client = await harness.connect()
    client.send(request(PATH, method, {"Connection": "close"}))
    head, _, body = (await client.end()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST" in head
    assert body == (b"" if method == "HEAD" else b'{"error":"this path answers POST"}\n')
    assert harness.reasons == ["method"]
    assert harness.heads == []


@pytest.mark.parametrize("path", [PATH + "/", PATH + "/x", "/api/v1/webhooks/git%68ub", PATH.upper(), "/" + PATH])
@pytest_twisted.ensureDeferred
async def test_the_path_is_exact(harness: Harness, path: str) -> None:
    made = delivery("push", secret=SECRET)
    assert (await harness.ask(request(path, headers=made.headers, body=made.body))).status == 404
    assert harness.taken == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x"])
@pytest_twisted.ensureDeferred
async def test_an_encoded_body_is_refused(harness: Harness, encoding: str) -> None:
    assert (await harness.deliver(headers={"Content-Encoding": encoding})).status == 415
    assert harness.reasons == ["encoding"]


@pytest_twisted.ensureDeferred
async def test_identity_is_no_encoding(harness: Harness) -> None:
    assert (await harness.deliver(headers={"Content-Encoding": "Identity"})).status == 202


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_cap_is_refused_before_it_is_sent(harness: Harness) -> None:
    client = await harness.connect()
    size = 25 * 2**20 + 1
    client.send(request(PATH, headers={"Content-Length": str(size), "Expect": "100-continue"}))
    assert (await client.answer()).status == 413
    assert await client.end() == b""
    assert harness.reasons == ["too_large"]


@pytest_twisted.ensureDeferred
async def test_a_body_as_large_as_the_cap_is_taken(harness: Harness) -> None:
    payload = json.dumps(payload_for("push")).encode()
    body = payload + b" " * (25 * 2**20 - len(payload))
    assert (await harness.ask(signed(body))).status == 202
    assert harness.site.limiter.held == 0


@pytest.mark.parametrize("signature", [{}, {"X-Hub-Signature-256": "sha256=" + "0" * 64}], ids=["unsigned", "signed"])
@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_refused_when_it_passes_the_cap(harness: Harness, signature: dict[str, str]) -> None:
    client = await harness.connect()
    client.send(request(PATH, headers={"Transfer-Encoding": "chunked", **signature}))
    client.send((b"100000\r\n" + b"x" * 2**20 + b"\r\n") * 26)
    assert (await client.answer()).status == 413
    assert harness.site.limiter.held == 0
    assert harness.reasons == ["too_large"]


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_drips_is_cut(harness: Harness, clock: Clock) -> None:
    client = await harness.connect()
    client.send(request(PATH, headers={"Content-Length": "9"}) + b"{")
    await harness.ask(request("/healthz", "GET"))
    clock.advance(30)
    assert (await client.answer()).status == 408
    await client.end()
    assert harness.reasons == ["deadline"]


@pytest.mark.parametrize("begun", [b"POST /api/v1/webhooks/github HTTP/1.1\r\nHost", b"no HTTP at all\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_refused_request_without_a_whole_head_counts_with_the_rate_limit(
    harness: Harness, clock: Clock, begun: bytes
) -> None:
    limiter = RateLimit(RateLimit.Settings(burst=1), clock=clock.seconds)
    client = await harness.connect()
    client.send(begun)
    await harness.ask(request("/healthz", "GET"))
    clock.advance(30)
    assert (await client.answer()).status in (400, 408)
    await client.end()
    [refused] = harness.seen
    limiter.stackit_observe(refused)
    assert refused.request is not None
    assert limiter.stackit_admit(refused.request) is not None


BAD_SIGNATURES = {
    "missing": [],
    "empty": [b""],
    "wrong": [b"sha256=" + b"0" * 64],
    "a prefix of the right one": [b"sha256=7"],
    "upper case": [b"sha256=" + b"A" * 64],
    "sha1": [b"sha1=" + b"0" * 40],
    "not ascii": [b"sha256=" + b"\xe9" * 64],
    "any bytes": [bytes(range(33, 127)) + bytes(range(128, 256))],
    "10 kB": [b"sha256=" + b"0" * 10_000],
    "two": [b"sha256=" + b"0" * 64, b"sha256=" + b"1" * 64],
}


@pytest.mark.parametrize("values", BAD_SIGNATURES.values(), ids=BAD_SIGNATURES.keys())
@pytest_twisted.ensureDeferred
async def test_whatever_is_wrong_with_a_signature_the_answer_is_one(harness: Harness, values: list[bytes]) -> None:
    body = json.dumps(payload_for("push")).encode()
    lines = b"".join(b"X-Hub-Signature-256: " + value + b"\r\n" for value in values)
    client = await harness.connect()
    client.send(b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nX-GitHub-Event: push\r\n" + lines)
    answer = await client.send(b"Content-Length: %d\r\n\r\n" % len(body) + body).answer()
    assert (answer.status, answer.json()) == (401, UNSIGNED)
    assert harness.reasons == ["signature"]
    assert harness.taken == []
    assert (await harness.deliver()).status == 202


@pytest_twisted.ensureDeferred
async def test_a_right_signature_that_comes_twice_is_refused(harness: Harness) -> None:
    body = json.dumps(payload_for("push")).encode()
    data = signed(body)
    line = next(each for each in data.split(b"\r\n") if each.startswith(b"X-Hub"))
    answer = await harness.ask(data.replace(line, line + b"\r\n" + line))
    assert (answer.status, answer.json()) == (401, UNSIGNED)


@pytest_twisted.ensureDeferred
async def test_the_old_sha1_signature_does_not_count(harness: Harness) -> None:
    assert (await harness.deliver(headers={"X-Hub-Signature-256": None})).status == 401


@pytest_twisted.ensureDeferred
async def test_a_signature_of_other_bytes_is_refused(harness: Harness) -> None:
    data = signed(json.dumps(payload_for("push")).encode())
    assert (await harness.ask(data[:-1] + b" ")).status == 401


@pytest_twisted.ensureDeferred
async def test_an_unsigned_body_is_never_kept_nor_asked_for(harness: Harness) -> None:
    client = await harness.connect()
    client.send(request(PATH, headers={"Content-Length": "1000000"}) + b"x" * 500_000)
    await harness.ask(request("/healthz", "GET"))
    assert harness.site.limiter.held == 0
    assert (await client.send(b"x" * 500_000).answer()).status == 401
    waiting = await harness.connect()
    waiting.send(request(PATH, headers={"Content-Length": "5", "Expect": "100-continue"}))
    assert (await waiting.answer()).status == 401


@pytest_twisted.ensureDeferred
async def test_an_unsigned_form_upload_is_not_parsed(harness: Harness) -> None:
    parts = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n" * 20_000
    answer = await harness.ask(request(PATH, headers={"Content-Type": "multipart/form-data; boundary=b"}, body=parts))
    assert (answer.status, answer.json()) == (401, UNSIGNED)


@pytest_twisted.ensureDeferred
async def test_a_refusal_of_a_plugin_waits_for_the_signature_if_it_says_so(harness: Harness) -> None:
    harness.verdict = Refused(status=429, reason="rate", retry_after=7, unless_verified=True)
    assert (await harness.deliver()).status == 202
    for headers in ({"X-Hub-Signature-256": "sha256=" + "0" * 64}, {"X-Hub-Signature-256": None}):
        answer = await harness.deliver(headers=headers)
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert "error" in answer.json()
    assert harness.reasons == ["rate", "rate"]


@pytest_twisted.ensureDeferred
async def test_who_owes_for_refused_requests_gets_no_chunks_that_are_mostly_framing(harness: Harness) -> None:
    harness.verdict = Refused(status=429, reason="rate", unless_verified=True)
    payload = {**payload_for("push"), "padding": "x" * 300_000}
    made = delivery("push", payload, secret=SECRET)
    head = request(PATH, headers={**made.headers, "Transfer-Encoding": "chunked"})
    for size, status in ((5000, 202), (100_000, 202), (1, 400)):
        parts = [made.body[at : at + size] for at in range(0, len(made.body), size)]
        client = await harness.connect()
        client.send(head)
        client.send(b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n")
        assert (await client.answer()).status == status
    assert (await harness.ask(request(PATH, headers=made.headers, body=made.body))).status == 202
    assert harness.reasons == ["malformed"]


@pytest_twisted.ensureDeferred
async def test_a_plugin_may_refuse_outright(harness: Harness) -> None:
    harness.verdict = Refused(status=403, reason="allowlist")
    assert (await harness.deliver()).status == 403
    assert harness.reasons == ["allowlist"]
    assert harness.taken == []
    assert (harness.heads[0].method, harness.heads[0].path) == (b"POST", PATH.encode())
    assert harness.heads[0].headers[b"x-github-event"] == (b"push",)


@pytest_twisted.ensureDeferred
async def test_a_journal_that_cannot_store_asks_to_come_again(harness: Harness) -> None:
    harness.fault = JournalError("the disk is full")
    answer = await harness.deliver()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert harness.reasons == ["journal"]
    assert "disk" not in str(answer.json())
    harness.fault = None
    assert (await harness.deliver()).status == 202


@pytest_twisted.ensureDeferred
async def test_a_fault_of_our_own_is_answered_500_and_told_in_the_log(harness: Harness, quiet: list[LogEvent]) -> None:
    harness.fault = ZeroDivisionError("ours")
    answer = await harness.deliver()
    assert (answer.status, answer.json()) == (500, {"error": "internal error"})
    (told,) = quiet
    assert "a delivery could not be taken: ZeroDivisionError: ours" in formatEvent(told)
    quiet.clear()
    harness.fault = None
    assert (await harness.deliver()).status == 202


@pytest.mark.parametrize(
    "data",
    [
        request(PATH, "GET", {"Content-Encoding": "gzip", "Content-Length": "99999999999"}),
        request(PATH, headers={"Content-Encoding": "gzip", "Content-Length": "99999999999"}),
        request(PATH, headers={"Content-Length": "99999999999"}),
        request(PATH, headers={}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_first_row_that_fits_is_the_answer(harness: Harness, data: bytes) -> None:
    expected = {b"GET": 405}.get(data.split()[0]) or (415 if b"gzip" in data else 413 if b"9999" in data else 401)
    assert (await harness.ask(data)).status == expected
    assert len(harness.seen) == 1


@pytest_twisted.ensureDeferred
async def test_a_proxy_may_come_by_a_unix_socket(clock: Clock, tmp_path: Path) -> None:
    limiter = RateLimit(RateLimit.Settings(burst=1, trusted_proxies=("unix",)), clock=clock.seconds)
    config = load(
        {"listen": f"unix:{tmp_path}/public.sock:mode=600"}, {"STACKIT_STATE_DIR": str(tmp_path)}, cwd=tmp_path
    )

    def take(event: Event, digest: bytes, done: Callable[[DeliveryResult | Failure], object]) -> None:
        done(DeliveryResult(id="1", duplicate=False, handled=True))

    site = public_site(
        config,
        forges=[(GITHUB, Secrets(GITHUB, [SECRET], [], print))],
        admit=limiter.stackit_admit,
        observe=limiter.stackit_observe,
        take=take,
        reactor=reactor,
        now=clock.seconds,
        stuck=list,
    )
    port = listen(reactor, config.listen, site, "public side")
    assert address(port, config.listen) == f"unix:{tmp_path}/public.sock"

    async def deliver(client: str, secret: str) -> int:
        made = delivery("push", secret=secret)
        headers = {**made.headers, "X-Forwarded-For": client, "Connection": "close"}
        endpoint = UNIXClientEndpoint(reactor, f"{tmp_path}/public.sock")
        talking: Client = await connectProtocol(endpoint, Client())
        return (await talking.send(request(PATH, headers=headers, body=made.body)).answer()).status

    assert [await deliver("198.51.100.7", "wrong") for _ in range(3)] == [401, 429, 429]
    assert await deliver("203.0.113.9", "wrong") == 401
    assert await deliver("198.51.100.7", SECRET) == 202
    await port.stopListening()
    await site.wind_down(0)


# -- the rest of the public side


@pytest_twisted.ensureDeferred
async def test_healthz_fails_while_a_part_of_the_process_does_not_move_and_shows_strangers_no_more(
    harness: Harness,
) -> None:
    harness.stuck = ["the journal's writer has not moved for 31 seconds"]
    answer = await harness.ask(request("/healthz", "GET"))
    assert (answer.status, "writer" in str(answer.json())) == (503, False)
    assert "/readyz" in answer.json()["error"]
    harness.stuck = []
    assert (await harness.ask(request("/healthz", "GET"))).status == 200


@pytest_twisted.ensureDeferred
async def test_healthz_fails_while_deliveries_should_go_to_another_node(harness: Harness) -> None:
    harness.closed = True
    answer = await harness.ask(request("/healthz", "GET"))
    assert (answer.status, answer.json()) == (503, {"error": "this node takes no deliveries now: send them to another"})
    assert (await harness.deliver()).status == 202
    harness.closed = False
    assert (await harness.ask(request("/healthz", "GET"))).status == 200


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_receive_has_no_webhook(clock: Clock, tmp_path: Path) -> None:
    harness = Harness(clock, [SECRET], tmp_path, receives=False)
    nowhere = await harness.ask(request("/api/v1/webhooks/nowhere"))
    answer = await harness.deliver()
    assert (answer.status, answer.body) == (nowhere.status, nowhere.body)
    assert (answer.status, harness.taken) == (404, [])
    assert (await harness.ask(request("/healthz", "GET"))).status == 503
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_health_and_config_are_public(harness: Harness) -> None:
    assert (await harness.ask(request("/healthz", "GET"))).json() == {"status": "ok"}
    for prefix in ("/api/v1", "/api"):
        about = (await harness.ask(request(f"{prefix}/config", "GET"))).json()
        assert set(about) == {"version", "read_only", "auth_required"}
    refused = await harness.ask(request("/healthz"))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    client = await harness.connect()
    client.send(request("/healthz", "HEAD", {"Connection": "close"}))
    assert (await client.end()).endswith(b"\r\n\r\n")


# -- secrets of an owner, a repository or an App


OF_OCTO, OF_WIDGET, OF_BOTH = "the secret of octo", "the secret of octo/widget", "the secret of two owners"


@pytest_twisted.async_yield_fixture
async def scoped_harness(clock: Clock, tmp_path: Path) -> AsyncIterator[Harness]:
    scoped = {
        tmp_path / "octo": (OF_OCTO, ["owner:octo"]),
        tmp_path / "widget": (OF_WIDGET, ["repo:octo/widget"]),
        tmp_path / "both": (OF_BOTH, ["owner:hubot", "owner:acme"]),
    }
    for path, (secret, _) in scoped.items():
        path.write_text(secret)
    made = Harness(clock, [SECRET], tmp_path, {path: scopes for path, (_, scopes) in scoped.items()})
    made.handled.add("organization")
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("secret", "repo", "signer"),
    [
        (SECRET, "acme/other", ""),
        (OF_OCTO, "octo/other", "owner:octo"),
        (OF_OCTO, "Octo/Widget", "owner:octo"),
        (OF_WIDGET, "octo/widget", "repo:octo/widget"),
        (OF_BOTH, "hubot/x", "owner:hubot"),
        (OF_BOTH, "acme/x", "owner:acme"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_secret_of_a_scope_speaks_for_the_repositories_of_its_scope(
    scoped_harness: Harness, tmp_path: Path, secret: str, repo: str, signer: str
) -> None:
    answer = await scoped_harness.deliver("push", payload_for("push", repo=repo), secret=secret)
    assert answer.status == 202
    ((event, _),) = scoped_harness.taken
    assert isinstance(event, Push)
    assert (event.signer, event.repo) == (signer, Repo.parse(repo))
    (seen,) = scoped_harness.seen
    labels = {OF_OCTO: "octo", OF_WIDGET: "widget", OF_BOTH: "both"}
    expected = str(tmp_path / labels[secret]) if secret in labels else "STACKIT_GITHUB_WEBHOOK_SECRET"
    assert seen.verified_by == expected


@pytest.mark.parametrize(
    ("secret", "event", "repo"),
    [
        (OF_OCTO, "push", "acme/widget"),
        (OF_WIDGET, "push", "octo/other"),
        (OF_BOTH, "push", "octo/widget"),
        (OF_WIDGET, "ping", "octo/other"),
        (OF_OCTO, "issues", "acme/widget"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_secret_proves_nothing_about_another_scopes_repositories(
    scoped_harness: Harness, clock: Clock, secret: str, event: str, repo: str
) -> None:
    answer = await scoped_harness.deliver(event, payload_for(event, repo=repo), secret=secret)
    forged = await scoped_harness.deliver(event, payload_for(event, repo=repo), secret="a secret of nobody")
    assert (answer.status, answer.json()) == (401, UNSIGNED)
    for each in (answer, forged):
        each.headers.pop("date")
    assert answer == forged, "who forges learns nothing of it"
    assert scoped_harness.taken == []
    assert [(seen.name, seen.reason, seen.status) for seen in scoped_harness.seen] == [
        ("refused", "scope", 401),
        ("refused", "signature", 401),
    ]


@pytest_twisted.ensureDeferred
async def test_without_a_repository_an_owners_secret_speaks_for_its_organization_alone(
    scoped_harness: Harness,
) -> None:
    payload = payload_for("organization", action="member_added")
    for login, status in (("octo", 202), ("acme", 401)):
        payload["organization"]["login"] = login
        payload.pop("repository", None)
        assert (await scoped_harness.deliver("organization", payload, secret=OF_OCTO)).status == status
    assert (await scoped_harness.deliver("organization", payload, secret=OF_WIDGET)).status == 401
    assert [event.signer for event, _ in scoped_harness.taken] == ["owner:octo"]


@pytest_twisted.ensureDeferred
async def test_a_delivery_out_of_scope_gets_the_refusal_of_an_address_over_its_limit(scoped_harness: Harness) -> None:
    scoped_harness.verdict = Refused(status=429, reason="rate", retry_after=7, unless_verified=True)
    own = await scoped_harness.deliver("push", payload_for("push", repo="octo/widget"), secret=OF_OCTO)
    foreign = await scoped_harness.deliver("push", payload_for("push", repo="acme/widget"), secret=OF_OCTO)
    assert (own.status, foreign.status) == (202, 429)
