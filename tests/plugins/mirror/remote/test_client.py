"""Remotes asked directly: one HTTP client, against servers that write any bytes they like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from byte_server import ByteServer
from clocks import as_reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater

from stackit import ManagedRepo, Repo, StackitError
from stackit.http.client import RemoteError, Timeouts, response_parser
from stackit.plugins.mirror.remote.client import AnswerLimits, Remote
from stackit.plugins.mirror.remote.remotes import Remotes

TYPE = b"Content-Type: application/x-git-upload-pack-result\r\n"
OK = b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: 4\r\n\r\n0000"
QUESTION = b"0014command=ls-refs\n0000"


class Harness:
    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.server = ByteServer(reactor, OK)
        self.give()

    def give(self, *, listing_limit: int = 2**20, **timeouts: float) -> None:
        """Give the client other timeouts, in seconds, or another limit."""
        self.remotes = Remotes(
            self.reactor, 2, timeouts=Timeouts(**timeouts), limits=AnswerLimits(listing=listing_limit)
        )
        self.remote = self.of(f"http://127.0.0.1:{self.server.port}/octo/widget.git")

    def of(self, url: str, **more: Any) -> Remote:
        remote = self.remotes.get(ManagedRepo(repo=Repo("octo", "widget"), url=url, **more))
        assert remote is not None
        remote.set_speaks_v2(speaks=True)
        return remote

    async def ask(self) -> bytes:
        """Ask, also a remote that did not answer a moment ago, and would be left alone."""
        self.remote._listing.succeeded()
        return await self.remote.ls_refs(QUESTION)

    async def fails(self) -> RemoteError:
        with pytest.raises(RemoteError) as caught:
            await self.ask()
        return caught.value

    async def until(self, ready: Callable[[], bool]) -> None:
        for _ in range(5000):
            if ready():
                return
            await deferLater(self.reactor, 0.01)
        raise AssertionError("waited in vain")


@pytest_twisted.async_yield_fixture
async def harness() -> AsyncIterator[Harness]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    harness = Harness(reactor)
    yield harness
    await harness.remotes.close()
    await harness.server.stop()


# -- what is asked ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_request_is_gits_own_and_asks_for_no_compression(harness: Harness) -> None:
    assert await harness.ask() == b"0000"
    head, _, body = harness.server.requests[0].partition(b"\r\n\r\n")
    assert body == QUESTION
    assert head.split(b"\r\n") == [
        b"POST /octo/widget.git/git-upload-pack HTTP/1.1",
        b"Host: 127.0.0.1:%d" % harness.server.port,
        b"Git-Protocol: version=2",
        b"User-Agent: git/2 (stackit)",
        b"Content-Type: application/x-git-upload-pack-request",
        b"Accept: application/x-git-upload-pack-result",
        b"Content-Length: %d" % len(QUESTION),
    ]


@pytest_twisted.ensureDeferred
async def test_a_token_is_sent_as_it_is_in_its_file_now(harness: Harness, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("one\n")
    remote = harness.of(f"http://127.0.0.1:{harness.server.port}/octo/widget.git", token_file=token_file)
    await remote.ls_refs(QUESTION)
    token_file.write_text("two\n")
    await remote.ls_refs(QUESTION)
    sent = [request.partition(b"Authorization: Basic ")[2].split(b"\r\n")[0] for request in harness.server.requests]
    assert sent == [b"eC1hY2Nlc3MtdG9rZW46b25l", b"eC1hY2Nlc3MtdG9rZW46dHdv"]
    token_file.unlink()
    with pytest.raises(StackitError, match="cannot be read"):
        await remote.ls_refs(QUESTION)


@pytest_twisted.ensureDeferred
async def test_a_path_cannot_carry_a_second_request(harness: Harness) -> None:
    remote = harness.of(f"http://127.0.0.1:{harness.server.port}/a b/é%20\x7f.git")
    await remote.ls_refs(QUESTION)
    assert harness.server.requests[0].startswith(b"POST /a%20b/%C3%A9%20%7F.git/git-upload-pack HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["ssh://git@host/x", "file:///x", "git@host:x"])
def test_what_is_not_http_has_no_remote(url: str) -> None:
    assert Remotes(as_reactor(Clock()), 2).get(ManagedRepo(repo=Repo("octo", "widget"), url=url)) is None


def test_behind_a_proxy_git_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def direct(url: str) -> bool:
        return Remotes(reactor, 2).get(ManagedRepo(repo=Repo("octo", "widget"), url=url)) is not None

    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "example.org")
    assert not direct("https://github.com/octo/widget.git")
    assert direct("https://git.example.org/octo/widget.git")
    assert direct("http://github.com/octo/widget.git")


# -- connections ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_one_connection_serves_request_after_request(harness: Harness) -> None:
    for _ in range(5):
        assert await harness.ask() == b"0000"
    assert len(harness.server.peers) == 1


@pytest_twisted.ensureDeferred
async def test_a_crowd_of_patient_questions_opens_few_connections_and_one_in_a_hurry_does_not_wait(
    harness: Harness,
) -> None:
    harness.server.answers = [lambda peer: None, lambda peer: None]
    crowd = [Deferred.fromCoroutine(harness.remote.ls_refs(QUESTION, patient=True)) for _ in range(20)]
    await harness.until(lambda: len(harness.server.requests) == 2)
    assert await harness.ask() == b"0000"
    crowd[-1].cancel()
    with pytest.raises(CancelledError):
        await crowd.pop()
    for peer in harness.server.peers[:2]:
        peer.transport.write(OK)
    assert await gatherResults(crowd) == [b"0000"] * 19
    assert len(harness.server.peers) == 3


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing(harness: Harness) -> None:
    await harness.ask()
    harness.server.answers = [lambda peer: peer.transport.loseConnection()]
    assert await harness.ask() == b"0000"
    assert len(harness.server.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_new_connection_that_is_closed_without_a_word_is_not_tried_again(harness: Harness) -> None:
    harness.server.answers = [lambda peer: peer.transport.loseConnection()]
    assert (await harness.fails()).reason == "unreachable"
    assert len(harness.server.requests) == 1


@pytest_twisted.ensureDeferred
async def test_an_answer_that_breaks_off_is_not_asked_for_again(harness: Harness) -> None:
    await harness.ask()

    def cut(peer: Any) -> None:
        peer.transport.write(OK[:-1])
        peer.transport.loseConnection()

    harness.server.answers = [cut]
    assert (await harness.fails()).reason == "unreachable"
    assert len(harness.server.requests) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_remote_wants_closed_is_closed(harness: Harness) -> None:
    harness.server.answers = [OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), OK.replace(b"1.1", b"1.0")]
    for _ in range(3):
        assert await harness.ask() == b"0000"
    assert len(harness.server.peers) == 3


@pytest_twisted.ensureDeferred
async def test_bytes_that_nobody_asked_for_end_the_connection(harness: Harness) -> None:
    await harness.ask()
    harness.server.peers[0].transport.write(OK)
    await harness.until(lambda: harness.server.lost == 1)
    assert await harness.ask() == b"0000"
    assert len(harness.server.peers) == 2


@pytest_twisted.ensureDeferred
async def test_a_connection_that_nobody_uses_is_closed_after_a_while(
    harness: Harness,
) -> None:
    harness.give(idle=0.1)
    await harness.ask()
    await harness.until(lambda: harness.server.lost == 1)


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_unreachable(harness: Harness) -> None:
    await harness.server.stop()
    assert (await harness.fails()).reason == "unreachable"
    harness.server = ByteServer(harness.reactor, OK)


@pytest_twisted.ensureDeferred
async def test_closing_ends_what_is_under_way(harness: Harness) -> None:
    harness.server.answers = [lambda peer: None]
    asked = Deferred.fromCoroutine(harness.ask())
    await harness.until(lambda: bool(harness.server.requests))
    await harness.remotes.close()
    with pytest.raises(RemoteError):
        await asked


@pytest_twisted.ensureDeferred
async def test_cancelling_closes_the_connection(harness: Harness) -> None:
    harness.server.answers = [lambda peer: None]
    asked = Deferred.fromCoroutine(harness.ask())
    await harness.until(lambda: bool(harness.server.requests))
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    await harness.until(lambda: harness.server.lost == 1)


# -- answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n"
        + TYPE
        + b"Transfer-Encoding: chunked\r\n\r\n2\r\n00\r\n2;x=y\r\n00\r\n0\r\nX: trailer\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\n" + TYPE + b"Content-Length: 4\r\nContent-Encoding: identity\r\n\r\n0000",
        b"HTTP/1.1 200 \r\ncontent-type:application/x-git-upload-pack-result; x=y\r\ncontent-length:4\r\n\r\n0000",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest_twisted.ensureDeferred
async def test_an_answer_is_read_in_whatever_pieces_it_comes(harness: Harness, said: bytes, size: int) -> None:
    async def drip(peer: Any) -> None:
        for at in range(0, len(said), size):
            peer.transport.write(said[at : at + size])
            await deferLater(harness.reactor, 0)

    harness.server.answers = [lambda peer: Deferred.fromCoroutine(drip(peer))]
    assert await harness.ask() == b"0000"
    assert await harness.ask() == b"0000"
    assert len(harness.server.peers) == 1


CHUNKED = b"HTTP/1.1 200 OK\r\n" + TYPE + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\n0000",
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\n0000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n0000",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n0000",
        b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n0000",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999\r\n\r\n0000",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0000\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4\r\n0000\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0000\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Encoding: gzip\r\n\r\n0000",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"4\r\n00000\r\n",
        CHUNKED + b"4;" + b"x" * 2 * response_parser.HEAD_LIMIT,
        CHUNKED + b"4\r\n0000\r\n0\r\n" + b"X: y\r\n" * response_parser.HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * response_parser.HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * response_parser.HEAD_LIMIT,
        b"HTTP/1.1 100 Continue\r\n\r\n" * response_parser.HEAD_LIMIT,
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_answer_is_refused_and_ends_the_connection(harness: Harness, said: bytes) -> None:
    harness.server.answers = [said]
    assert (await harness.fails()).reason == "protocol"
    await harness.until(lambda: harness.server.lost == 1)
    assert await harness.ask() == b"0000"


@pytest.mark.parametrize("content_type", [b"", b"Content-Type: text/html\r\n", b"Content-Type:\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_page_is_no_answer_whatever_it_says(harness: Harness, content_type: bytes) -> None:
    harness.server.answers = [b"HTTP/1.1 200 OK\r\n" + content_type + b"Content-Length: 4\r\n\r\n0000"]
    assert (await harness.fails()).reason == "not_git"
    assert await harness.ask() == b"0000"


@pytest.mark.parametrize("more", [b"\r\n", b"x", OK, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"])
@pytest.mark.parametrize("said", [OK, CHUNKED + b"4\r\n0000\r\n0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_what_comes_behind_an_answer_answers_nothing(harness: Harness, said: bytes, more: bytes) -> None:
    harness.server.answers = [said + more]
    if b"204" in said:
        assert (await harness.fails()).status == 204
    else:
        assert await harness.ask() == b"0000"
    assert await harness.ask() == b"0000"
    # An empty line alone is nothing that could pass for an answer.
    assert len(harness.server.peers) == 2 or (more == b"\r\n" and said.startswith(CHUNKED))


@pytest.mark.parametrize("chunked", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_answer_without_an_end_is_cut_off(harness: Harness, chunked: bool) -> None:
    harness.give(listing_limit=100_000)

    async def flood(peer: Any) -> None:
        peer.transport.write(CHUNKED if chunked else b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        while not peer.transport.disconnected:
            peer.transport.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
            await deferLater(harness.reactor, 0)

    harness.server.answers = [lambda peer: Deferred.fromCoroutine(flood(peer))]
    assert (await harness.fails()).reason == "too_large"
    await harness.until(lambda: harness.server.lost == 1)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1], CHUNKED + b"4\r\n00"])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_come_to_its_end_in_time_is_given_up(harness: Harness, said: bytes) -> None:
    harness.give(answer=0.1)
    harness.server.answers = [said]
    assert (await harness.fails()).reason == "timeout"
    await harness.until(lambda: harness.server.lost == 1)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 500, 502, 503])
@pytest_twisted.ensureDeferred
async def test_another_status_is_the_reason_and_the_connection_is_kept(harness: Harness, status: int) -> None:
    said = b"HTTP/1.1 %d Oh\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n\r\nsome" % status
    harness.server.answers = [said]
    problem = await harness.fails()
    assert (problem.reason, problem.status, problem.retry_after) == ("status", status, None)
    await harness.ask()
    assert len(harness.server.peers) == 1
    assert harness.remote.quiet_until == 0.0


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 9999999\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest_twisted.ensureDeferred
async def test_an_error_with_a_body_that_is_not_worth_reading_is_known_all_the_same(
    harness: Harness, framing: bytes
) -> None:
    harness.server.answers = [
        b"HTTP/1.1 404 Not Found\r\n" + framing + b"\r\n" + b"20000\r\n" + b"x" * 0x20000 + b"\r\n"
    ]
    assert (await harness.fails()).status == 404
    await harness.until(lambda: harness.server.lost == 1)


@pytest.mark.parametrize(
    ("status", "said", "seconds", "whole_host"),
    [
        (429, b"Retry-After: 7\r\n", 7, True),
        (403, b"Retry-After: 7\r\n", 7, True),
        (503, b"Retry-After: 7\r\n", 7, False),
        (429, b"Retry-After: Thu, 01 Jan 2026 00:00:00 GMT\r\n", 0, True),
        (429, b"Retry-After: 99999999\r\n", 86400, True),
        (429, b"Retry-After: soon\r\n", 60, True),
        (429, b"", 60, True),
        (403, b"", None, False),
        (404, b"Retry-After: 7\r\n", None, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_remote_that_wants_fewer_requests_says_for_how_long(
    harness: Harness, status: int, said: bytes, seconds: float | None, whole_host: bool
) -> None:
    harness.server.answers = [b"HTTP/1.1 %d Oh\r\n" % status + said + b"Content-Length: 0\r\n\r\n"]
    before = harness.reactor.seconds()
    assert (await harness.fails()).retry_after == seconds
    other = harness.of(f"http://127.0.0.1:{harness.server.port}/octo/other.git")
    if whole_host and seconds is not None:
        assert before + seconds - 0.001 <= other.quiet_until <= harness.reactor.seconds() + seconds + 0.001
    else:
        assert other.quiet_until == 0.0


class Forever:
    """A ``TokenSource`` whose token is always valid."""

    problem: None = None

    def current(self) -> str:
        return "token"

    async def ready(self) -> None:
        pass

    def accepted(self, token: str) -> None:
        pass

    async def rejected(self, token: str, status: int) -> bool:
        raise AssertionError(f"a limit is no refusal of the {token}: {status}")


@pytest_twisted.ensureDeferred
async def test_a_limit_of_one_source_of_tokens_silences_no_other(harness: Harness) -> None:
    harness.server.answers = [b"HTTP/1.1 403 Oh\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"]
    url, one, other = f"http://127.0.0.1:{harness.server.port}/octo", Forever(), Forever()
    harness.remote = harness.of(f"{url}/widget.git", token_source=one)
    assert (await harness.fails()).retry_after == 7
    assert harness.of(f"{url}/gadget.git", token_source=one).quiet_until > 0
    assert harness.of(f"{url}/tool.git", token_source=other).quiet_until == 0
    assert harness.of(f"{url}/public.git").quiet_until == 0


# -- TLS --------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for ``localhost``, with its key, that is its own authority."""
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - only this test needs it

    from cryptography import x509  # noqa: PLC0415 - only this test needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - only this test needs it
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - only this test needs it

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "localhost.pem"
    pem.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem


@pytest.fixture
def tls(harness: Harness, certificate: Path) -> Iterator[int]:
    """The port of the same server over TLS."""
    from twisted.internet.ssl import DefaultOpenSSLContextFactory  # noqa: PLC0415 - only this test needs it

    contexts = DefaultOpenSSLContextFactory(str(certificate), str(certificate))
    port = harness.reactor.listenSSL(0, harness.server, contexts, interface="127.0.0.1")
    yield port.getHost().port
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_over_tls_the_certificate_must_be_known_and_the_hosts(
    harness: Harness, tls: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = harness.of(f"https://localhost:{tls}/octo/widget.git")
    with pytest.raises(RemoteError, match="unreachable"):
        await unknown.ls_refs(QUESTION)
    assert harness.server.requests == [], "nothing is said to somebody else"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = Remotes(harness.reactor, 2)
    repo = Repo("octo", "widget")
    known = trusting.get(ManagedRepo(repo=repo, url=f"https://localhost:{tls}/octo/widget.git"))
    other = trusting.get(ManagedRepo(repo=repo, url=f"https://127.0.0.1:{tls}/octo/widget.git"))
    assert known is not None
    assert other is not None
    known.set_speaks_v2(speaks=True)
    other.set_speaks_v2(speaks=True)
    for _ in range(3):
        assert await known.ls_refs(QUESTION) == b"0000"
    peers = len(harness.server.peers)
    with pytest.raises(RemoteError, match="unreachable"):
        await other.ls_refs(QUESTION)
    assert len(harness.server.requests) == 3
    assert peers == 2, "one connection for three requests, after the one that was refused"
    await trusting.close()
