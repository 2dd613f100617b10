"""stackit.service.ports: the sides on sockets that were handed over, and what they may not be."""

from __future__ import annotations

import configparser
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory

from stackit import StackitError
from stackit.config.model import AdminConfig, Config
from stackit.config.secret import Secret
from stackit.service.ports import ADMIN, PUBLIC, Ports

ANY = "tcp:0:interface=127.0.0.1"
TOKEN = Secret("a token")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[dict[str, socket.socket]]:
    """Sockets that listen, by a word for each."""
    made = {
        "loopback": socket.create_server(("127.0.0.1", 0)),
        "everywhere": socket.create_server(("0.0.0.0", 0)),  # noqa: S104 - that is what the test is about
        "abstract": unix(f"\0stackit-ports-{os.getpid()}"),
        "open": unix(str(tmp_path / "open")),
        "closed": unix(str(tmp_path / "closed")),
    }
    (tmp_path / "open").chmod(0o666)
    (tmp_path / "closed").chmod(0o600)
    yield made
    for each in made.values():
        each.close()


def unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen()
    return made


def ports(sockets: dict[str, list[socket.socket]], **settings: Any) -> Ports:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    config = Config(state_dir=Path("unused"), **{"listen": ANY, "admin": AdminConfig(listen=ANY), **settings})
    return Ports(config, reactor, sockets)


@pytest_twisted.ensureDeferred
async def test_each_side_takes_the_sockets_of_its_name_and_binds_where_there_is_none(
    held: dict[str, socket.socket], tmp_path: Path
) -> None:
    opened = ports({"public": [held["loopback"], held["open"]]})
    where = f"http://127.0.0.1:{held['loopback'].getsockname()[1]}"
    opened.listen(Factory(), Factory())
    assert opened.addresses[:2] == [where, f"unix:{tmp_path}/open"]
    assert opened.addresses[2].startswith("http://127.0.0.1:")
    assert len(opened.addresses) == 3
    await opened.close()
    assert stat.S_ISSOCK((tmp_path / "open").stat().st_mode)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["loopback", "closed"])
async def test_an_admin_socket_that_only_its_owner_reaches_needs_no_token(
    name: str, held: dict[str, socket.socket]
) -> None:
    opened = ports({"admin": [held[name]]})
    opened.listen(Factory(), Factory())
    await opened.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("everywhere", "ListenStream=127.0.0.1:8081"),
        ("open", "SocketMode=0600"),
        ("abstract", "SocketMode=0600"),
    ],
)
async def test_an_admin_socket_that_others_reach_needs_a_token(
    name: str, way_out: str, held: dict[str, socket.socket]
) -> None:
    with_token = ports({"admin": [held[name].dup()]}, api_token=TOKEN)
    with_token.listen(Factory(), Factory())
    await with_token.close()
    without = ports({"admin": [held[name]]})
    with pytest.raises(StackitError, match=f"admin side: .* needs a token.*{way_out}"):
        without.listen(Factory(), Factory())
    await without.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["loopback", "everywhere", "open", "closed"])
async def test_no_socket_is_that_of_both_sides(name: str, held: dict[str, socket.socket]) -> None:
    with held[name].dup() as other:
        opened = ports({"public": [held[name]], "admin": [other]}, api_token=TOKEN)
        with pytest.raises(StackitError, match=r"admin side: .* is where the public side listens, too: say another"):
            opened.listen(Factory(), Factory())
    await opened.close()


@pytest_twisted.ensureDeferred
async def test_tls_cannot_be_had_on_a_socket_that_was_handed_over(held: dict[str, socket.socket]) -> None:
    opened = ports({"public": [held["loopback"]]}, listen="ssl:443:privateKey=key.pem:certKey=cert.pem")
    with pytest.raises(StackitError, match=r"public side: listens with TLS .*let a proxy do TLS"):
        opened.listen(Factory(), Factory())
    await opened.close()


def test_the_units_of_systemd_name_the_sockets_as_the_sides_are_called() -> None:
    units = Path(__file__).parents[2] / "contrib" / "systemd"
    service = (units / "stackit.service").read_text()
    for side, port in ((PUBLIC, 8080), (ADMIN, 8081)):
        unit = configparser.ConfigParser(interpolation=None)
        unit.read(units / f"stackit-{side}.socket")
        assert dict(unit["Socket"]) == {
            "listenstream": f"127.0.0.1:{port}",
            "filedescriptorname": side,
            "service": "stackit.service",
        }
        assert f"stackit-{side}.socket" in next(line for line in service.splitlines() if line.startswith("Sockets="))
