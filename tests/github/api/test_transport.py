"""HTTP to GitHub's API: answers that come slowly, in part, compressed or not at all, and whom a connection trusts."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from byte_server import OK
from certificates import Authority
from transport_pair import Tls, TransportPair, problem_of, until
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import CancelledError, Deferred

from stackit.http.client.tls import TlsFiles

reactor: Any = the_reactor


def said(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def cut(data: bytes) -> Callable[[Any], None]:
    """Write something, and close the connection."""

    def answer(peer: Any) -> None:
        peer.transport.write(data)
        peer.transport.loseConnection()

    return answer


def reset(peer: Any) -> None:
    peer.transport.abortConnection()


@pytest_twisted.async_yield_fixture
async def pair() -> AsyncIterator[TransportPair]:
    pair = TransportPair()
    yield pair
    await pair.stop()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (reset, ""),
        (cut(b""), ""),
        (cut(said(b"[1, 2", length=10)), "broke off"),
        (cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1, 2\r\n"), "broke off"),
        (cut(b"HTTP/1.1 200 OK\r\n\r\n[1, 2]"), "broke off"),  # nobody can tell that this is all
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ""),
        (said(gzip.compress(b"[1, 2]", mtime=0)[:-9], "Content-Encoding: gzip"), "cut off"),
        (said(b"[1, 2]", "Content-Encoding: gzip"), "broken"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_not_whole_is_none(pair: TransportPair, answer: Any, text: str) -> None:
    pair.server.default = answer
    pair.server.answers = [answer, answer]
    problem = await problem_of(pair.get())
    assert problem.reason == "network"
    assert text in str(problem)
    assert "\n" not in str(problem)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_never_ends_is_given_up_and_its_connection_closed(pair: TransportPair) -> None:
    pair.server.answers = [pair.drip]
    problem = await problem_of(pair.get(transport=pair.make(timeout=0.3)))
    assert (problem.reason, str(problem)) == ("network", "no whole answer within 0.3 seconds")
    await until(lambda: pair.server.lost == 1)


@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_is_given_up(pair: TransportPair) -> None:
    pair.server.answers = [lambda _: None]
    problem = await problem_of(pair.get(transport=pair.make(timeout=0.3)))
    assert str(problem) == "no whole answer within 0.3 seconds"
    await until(lambda: pair.server.lost == 1)


@pytest.mark.parametrize("kind", ["slow", "silent"])
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_cancelled_closes_its_connection(pair: TransportPair, kind: str) -> None:
    pair.server.answers = [pair.drip if kind == "slow" else lambda _: None]
    asked = Deferred.fromCoroutine(pair.get())
    await until(lambda: pair.server.requests)
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    await until(lambda: pair.server.lost == 1)


@pytest_twisted.ensureDeferred
async def test_an_answer_is_bounded_also_in_what_it_unpacks_to(pair: TransportPair) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    assert len(bomb) < 2**16
    pair.server.answers = [
        said(bytes(2**20)),
        said(bytes(2**20 + 1)),
        said(gzip.compress(b"x" * 2**20), "Content-Encoding: gzip"),
        said(bomb, "Content-Encoding: gzip"),
    ]
    assert await pair.get(largest=2**20) == bytes(2**20)
    assert (await problem_of(pair.get(largest=2**20))).reason == "too_large"
    assert await pair.get(largest=2**20) == b"x" * 2**20
    problem = await problem_of(pair.get(largest=2**20))
    assert (problem.reason, str(problem)) == ("too_large", "the answer is larger than 1 MiB")


@pytest_twisted.ensureDeferred
async def test_a_connection_is_kept_for_reads_and_never_used_for_a_write(pair: TransportPair) -> None:
    pair.server.default = said(b"[]")
    for method in ("GET", "GET", "POST", "PATCH"):
        await pair.get(method)
    assert len(pair.server.peers) == 3
    assert [b"accept-encoding: gzip" in each.lower() for each in pair.server.requests] == 4 * [True]


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_broke_costs_no_request(pair: TransportPair) -> None:
    pair.server.default = said(b"[]")
    pair.server.answers = [said(b"[1]"), reset]
    assert await pair.get() == b"[1]"
    assert await pair.get() == b"[]"


@pytest_twisted.ensureDeferred
async def test_a_host_that_is_not_there_is_one_line(pair: TransportPair) -> None:
    await pair.server.stop()
    problem = await problem_of(pair.get())
    assert str(problem).startswith("no connection: ")
    problem = await problem_of(pair.transport.request("GET", "http://no.such.host.invalid/", {}))
    assert str(problem) == "its name cannot be resolved"


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address_is_reached(pair: TransportPair) -> None:
    port = reactor.listenTCP(0, pair.server, interface="::1")
    try:
        answer = await pair.transport.request("GET", f"http://[::1]:{port.getHost().port}/x", {})
        assert answer.body == b"0000"
        assert f"host: [::1]:{port.getHost().port}".encode() in pair.server.requests[0].lower()
        await pair.transport.close()
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_only_the_authorities_of_the_hosts_file_are_trusted(pair: TransportPair, tmp_path: Path) -> None:
    tls = Tls(pair, tmp_path)
    asked: list[tuple[str, int]] = []

    def files(host: str, port: int) -> TlsFiles:
        asked.append((host, port))
        return TlsFiles(ca_file=tls.authority.ca)

    assert (await pair.make(tls_files=files).request("GET", tls.url, {})).body == OK[-4:]
    assert asked == [("127.0.0.1", int(tls.url.split(":")[2].partition("/")[0]))]
    problem = await problem_of(pair.transport.request("GET", tls.url, {}))
    said = "its certificate is not signed by an authority that is trusted; see ca_file in [[hosts]]"
    assert (problem.reason, str(problem)) == ("network", said)
    missing = pair.make(tls_files=lambda *_: TlsFiles(ca_file=tmp_path / "none.pem"))
    assert "none.pem" in str(await problem_of(missing.request("GET", tls.url, {})))
    assert len(pair.server.requests) == 1
    await tls.stop()


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name_is_refused(pair: TransportPair, tmp_path: Path) -> None:
    tls = Tls(pair, tmp_path)
    transport = pair.make(tls_files=lambda *_: TlsFiles(ca_file=tls.authority.ca))
    problem = await problem_of(transport.request("GET", tls.url.replace("127.0.0.1", "localhost"), {}))
    assert str(problem) == "its certificate is for another name"
    assert pair.server.requests == []
    await tls.stop()


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_is_shown(pair: TransportPair, tmp_path: Path) -> None:
    own = Authority(tmp_path, "people")
    cert, key = own.issue("stackit")
    tls = Tls(pair, tmp_path, clients=own.ca)
    shown = pair.make(tls_files=lambda *_: TlsFiles(tls.authority.ca, cert, key))
    assert (await shown.request("GET", tls.url, {})).body == OK[-4:]
    hidden = pair.make(tls_files=lambda *_: TlsFiles(tls.authority.ca))
    assert (await problem_of(hidden.request("GET", tls.url, {}))).reason == "network"
    await tls.stop()


@pytest_twisted.ensureDeferred
async def test_a_tls_connection_is_closed_without_waiting_for_its_peer(pair: TransportPair, tmp_path: Path) -> None:
    tls = Tls(pair, tmp_path)
    pair.server.answers = [pair.drip]
    transport = pair.make(timeout=2.0, tls_files=lambda *_: TlsFiles(tls.authority.ca))
    assert "2 seconds" in str(await problem_of(transport.request("GET", tls.url, {})))
    await until(lambda: pair.server.lost == 1)
    await tls.stop()
