"""Remotes behind a private authority, and such as ask for a certificate: by the fast fetch and by git alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from certificates import Authority, server_options
from mirror_harness import GitHttp, Harness, Upstream, managed, pushed, refs

from stackit import StackitError

Start = Callable[..., GitHttp]


@pytest.fixture(autouse=True)
def _no_help_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def serve(upstream: Upstream, authority: Authority) -> Iterator[Start]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    started: list[GitHttp] = []

    def serve(clients: Path | None = None) -> GitHttp:
        options = server_options(*authority.issue("server"), clients)
        started.append(GitHttp(reactor, upstream.directory.parent.parent, options))
        return started[-1]

    yield serve
    for server in started:
        pytest_twisted.blockon(server.stop())


async def pushes_and_looks(harness: Harness, upstream: Upstream) -> None:
    """A clone and a look by git, a push by the fast fetch, and a look without git."""
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    old = upstream.refs()["refs/heads/main"]
    await harness.push(pushed(harness, old, upstream.advance()))
    assert refs(harness.path()) == upstream.refs()
    assert harness.named("fallback") == []
    await harness.worker().sync("manual")
    assert harness.worker().state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_private_authority_is_trusted_for_its_host(
    upstream: Upstream, serve: Start, authority: Authority, tmp_path: Path
) -> None:
    harness = Harness(tmp_path / "state", managed(serve().url("octo/widget.git"), ca_file=authority.ca))
    await pushes_and_looks(harness, upstream)
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_without_it_neither_road_trusts_the_host(serve: Start, tmp_path: Path) -> None:
    server = serve()
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    with pytest.raises(StackitError, match="certificate"):
        await harness.worker().sync("start")
    assert server.asked == []
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_another_authority_is_not_trusted(serve: Start, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    server = serve()
    harness = Harness(
        tmp_path / "state", managed(server.url("octo/widget.git"), ca_file=Authority(tmp_path / "other").ca)
    )
    with pytest.raises(StackitError, match="certificate"):
        await harness.worker().sync("start")
    assert server.asked == []
    await harness.stop()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest_twisted.ensureDeferred
async def test_what_openssl_is_told_by_the_environment_holds_for_git_and_for_the_fast_fetch(
    upstream: Upstream,
    serve: Start,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    place = authority.ca
    if variable == "SSL_CERT_DIR":
        from cryptography import x509  # noqa: PLC0415 - only this test needs it
        from OpenSSL.crypto import X509  # noqa: PLC0415 - only this test needs it

        place = tmp_path / "authorities"
        place.mkdir()
        certificate = X509.from_cryptography(x509.load_pem_x509_certificate(authority.ca.read_bytes()))
        (place / f"{certificate.subject_name_hash():08x}.0").write_bytes(authority.ca.read_bytes())
    monkeypatch.setenv(variable, str(place))
    harness = Harness(tmp_path / "state", managed(serve().url("octo/widget.git")))
    await pushes_and_looks(harness, upstream)
    await harness.stop()


@pytest.mark.parametrize("form", ["apart", "in one file", "below another authority"])
@pytest_twisted.ensureDeferred
async def test_a_certificate_is_shown_to_a_host_that_asks_for_one(
    upstream: Upstream, serve: Start, authority: Authority, tmp_path: Path, form: str
) -> None:
    issuer = Authority(tmp_path, "between", authority) if form == "below another authority" else authority
    cert, key = issuer.issue("client")
    if form == "in one file":
        cert.write_bytes(cert.read_bytes() + key.read_bytes())
        key = cert
    server = serve(clients=authority.ca)
    harness = Harness(
        tmp_path / "state",
        managed(server.url("octo/widget.git"), ca_file=authority.ca, client_cert=cert, client_key=key),
    )
    await pushes_and_looks(harness, upstream)
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_without_one_such_a_host_answers_nothing(serve: Start, authority: Authority, tmp_path: Path) -> None:
    server = serve(clients=authority.ca)
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git"), ca_file=authority.ca))
    with pytest.raises(StackitError):
        await harness.worker().sync("start")
    assert server.asked == []
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_files_that_are_replaced_hold_from_the_next_connection_on(
    upstream: Upstream, serve: Start, authority: Authority, tmp_path: Path
) -> None:
    ca_file = tmp_path / "trusted.pem"
    (tmp_path / "other").mkdir()
    ca_file.write_bytes(authority.ca.read_bytes())
    harness = Harness(tmp_path / "state", managed(serve().url("octo/widget.git"), ca_file=ca_file))
    await pushes_and_looks(harness, upstream)
    ca_file.write_bytes(Authority(tmp_path / "other").ca.read_bytes())
    with pytest.raises(StackitError, match="certificate"):
        await harness.worker().sync("manual")
    ca_file.write_text("broken")
    old = upstream.refs()["refs/heads/main"]
    with pytest.raises(StackitError, match="certificate"):
        await harness.push(pushed(harness, old, upstream.advance()))
    ca_file.write_bytes(authority.ca.read_bytes())
    await harness.push(pushed(harness, old, upstream.refs()["refs/heads/main"]))
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()
