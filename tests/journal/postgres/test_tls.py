"""TLS to the database: certificates that are not what they should be are one clear line, and connections can be cut."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from certificates import Authority
from postgres_front import PostgresFront

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.opening import prepare
from stackit.journal.postgres.reader import Reader
from stackit.testing.postgres import PostgresServer, database_of


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority(directory)


@pytest.fixture
def front(postgres_server: PostgresServer, authority: Authority) -> Iterator[PostgresFront]:
    """A front with a certificate for 127.0.0.1."""
    with PostgresFront(socket_of(postgres_server), certificate=authority.issue("server")) as started:
        yield started


def socket_of(server: PostgresServer) -> str:
    return f"{server.directory}/.s.PGSQL.{server.port}"


def by_way_of(front: PostgresFront, conninfo: str, authority: Authority) -> str:
    return (
        f"host=127.0.0.1 port={front.port} dbname={database_of(conninfo)} user=stackit sslmode=verify-full "
        f"sslrootcert={authority.ca}"
    )


def refused(conninfo: str) -> str:
    """Return the line with which a start is refused."""
    with pytest.raises(JournalError) as caught:
        prepare(Server(conninfo), 16)
    line = str(caught.value)
    assert line.startswith("the database of the fleet (fleet.postgres) cannot be used: ")
    assert "\n" not in line
    return line


def test_a_server_whose_certificate_is_trusted_is_used(
    front: PostgresFront, postgres: str, authority: Authority
) -> None:
    assert prepare(Server(by_way_of(front, postgres, authority)), 16) == 16


def test_a_certificate_that_is_not_trusted_is_one_line_with_the_way_out(
    front: PostgresFront, postgres: str, authority: Authority, directory: Path
) -> None:
    good = by_way_of(front, postgres, authority)
    other = Authority(directory, "other")
    assert "not signed by the authority in sslrootcert" in refused(good.replace(str(authority.ca), str(other.ca)))
    assert "name the host as its certificate does" in refused(f"{good} host=localhost hostaddr=127.0.0.1")
    assert 'root certificate file "/nowhere.pem" does not exist' in refused(f"{good} sslrootcert=/nowhere.pem")


def test_a_certificate_that_has_expired_is_one_line_with_the_way_out(
    postgres_server: PostgresServer, postgres: str, authority: Authority
) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    old = authority.issue("old", until=yesterday)
    with PostgresFront(socket_of(postgres_server), certificate=old) as front:
        assert "or has expired; openssl s_client" in refused(by_way_of(front, postgres, authority))


def test_a_server_without_tls_is_one_line_with_the_way_out(postgres_server: PostgresServer, postgres: str) -> None:
    plain = f"{postgres_server.conninfo(database_of(postgres), tcp=True)} sslmode=require"
    line = refused(plain)
    assert "server does not support SSL, but SSL was required; set ssl = on" in line


def test_a_server_may_want_a_certificate_of_the_node(
    postgres_server: PostgresServer, postgres: str, authority: Authority, directory: Path
) -> None:
    server, (cert, key), (_, stranger) = (
        authority.issue("server"),
        authority.issue("stackit"),
        Authority(directory, "third").issue("stranger"),
    )
    stranger_cert = stranger.with_suffix(".crt")
    for each in (key, stranger):
        each.chmod(0o600)
    with PostgresFront(socket_of(postgres_server), certificate=server, clients=authority.ca) as front:
        conninfo = by_way_of(front, postgres, authority)
        assert prepare(Server(f"{conninfo} sslcert={cert} sslkey={key}"), 16) == 16
        line = refused(f"{conninfo} sslcert={stranger_cert} sslkey={stranger}")
        assert "it does not take the certificate in sslcert" in line
        key.chmod(0o644)
        assert "has group or world access" in refused(f"{conninfo} sslcert={cert} sslkey={key}")


@pytest_twisted.ensureDeferred
async def test_a_wait_for_a_server_behind_tls_that_fell_silent_is_cut(
    front: PostgresFront, postgres: str, authority: Authority
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    server = Server(by_way_of(front, postgres, authority))
    reader = Reader(lambda: server.connect("reader"), reactor, on_failure=list, patience=1.0, grace=0.5)
    reader.connect()
    reader.start()
    try:
        assert await reader.ask(lambda connection: connection.execute("SELECT 1").fetchall()) == [(1,)]
        front.hold()
        # It is asked once more by another connection.
        assert await reader.ask(lambda connection: connection.execute("SELECT 2").fetchall()) == [(2,)]
    finally:
        front.heal()
        await reader.close()
