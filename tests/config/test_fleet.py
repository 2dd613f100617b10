"""The table ``[fleet]``: what a node has to know of its fleet, and what must not be said."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackit.api.errors import ConfigError
from stackit.config.load import load
from stackit.config.mistakes import Mistakes
from stackit.config.model import Config
from stackit.text.redaction import redacted


def loaded(directory: Path, text: str) -> Config:
    (directory / "twistd.conf").write_text(text)
    return load({}, {}, cwd=directory)


def test_without_a_database_there_is_no_fleet(tmp_path: Path) -> None:
    assert not loaded(tmp_path, "").fleet.is_configured


def test_a_node_has_the_name_of_its_host_and_the_address_of_its_admin_side(tmp_path: Path) -> None:
    fleet = loaded(tmp_path, '[fleet]\npostgres = "host=db1,db2 dbname=stackit"').fleet
    assert fleet.is_configured
    assert fleet.node
    assert fleet.address == "http://127.0.0.1:8081"
    named = '[admin]\nurl = "https://a.example.org"\n[fleet]\npostgres = "dbname=stackit"\nnode = "a"'
    fleet = loaded(tmp_path, named).fleet
    assert (fleet.node, fleet.address) == ("a", "https://a.example.org")
    assert loaded(tmp_path, f'{named}\naddress = "https://10.0.0.5:8081"').fleet.address == "https://10.0.0.5:8081"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('node = "a"', "fleet.node: of use with a database only"),
        ('postgres = ""', "fleet.postgres: expected where the database is"),
        ('postgres = "dbname=x"\nnode = "a b"', "fleet.node: expected up to 63 letters"),
        ('postgres = "dbname=x"\nlease = "0.5s"', "fleet.lease: expected 1s or more"),
        ('postgres = "dbname=x"\nroles = []', 'fleet.roles: expected one or more of "receive"'),
        ('postgres = "dbname=x"\nroles = ["run"]', "fleet.roles: expected one of 'receive', 'handle', 'mirror'"),
        ('postgres = "dbname=x"\ncopies = 3', "fleet.copies: expected 1 or 2"),
        ('postgres = "dbname=x"\nshards = 0', "fleet.shards: expected 1 to 4096"),
        ('postgres = "dbname=x"\naddress = "10.0.0.5"', "fleet.address: "),
    ],
)
def test_a_mistake_is_named_with_its_setting(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(ConfigError) as mistake:
        loaded(tmp_path, f"[fleet]\n{line}")
    assert expected in str(mistake.value)


def test_a_name_that_is_none_is_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "twistd.conf").write_text('[fleet]\npostgres = "dbname=x"\nnode = "a b"')
    mistakes = Mistakes(collect=True)
    load({}, {}, cwd=tmp_path, mistakes=mistakes)
    (mistake,) = mistakes.found
    assert "fleet.node: expected up to 63 letters" in str(mistake)


@pytest.mark.parametrize(
    "conninfo",
    [
        "host=db password=open-sesame",
        "password = 'open-sesame' host=db",
        "postgresql://stackit:open-sesame@db/stackit",
        "postgres://db/stackit?password=open-sesame",
        "postgresql://stackit:open@sesame@db/stackit",
        "postgresql://stackit@server:open-sesame@127.0.0.1/stackit",
        "postgresql://stackit:open?sesame@db/stackit",
        "postgresql://stackit:open?@sesame@127.0.0.1:1/stackit",
        "postgresql://stackit?a:open-sesame@db/stackit",
    ],
)
def test_a_password_is_refused_and_said_nowhere(tmp_path: Path, conninfo: str) -> None:
    with pytest.raises(ConfigError, match="a password has no place here") as mistake:
        loaded(tmp_path, f'[fleet]\npostgres = "{conninfo}"')
    assert "sesame" not in str(mistake.value)
    assert "sesame" not in redacted(f"connection to {conninfo} failed")


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://stackit@db1:5432,db2:5432/stackit?sslmode=verify-full",
        "postgresql://stackit@[::1]:5432/stackit",
        "postgresql:///stackit?host=/run/postgresql&user=hubot%40octo",
        "host=db1,db2 dbname=stackit user=stackit passfile=/etc/stackit/pgpass",
    ],
)
def test_what_has_no_password_is_taken(tmp_path: Path, conninfo: str) -> None:
    assert loaded(tmp_path, f'[fleet]\npostgres = "{conninfo}"').fleet.postgres == conninfo


@pytest.mark.parametrize(
    "conninfo",
    ["postgresql://stackit:open/sesame@db/stackit", "postgresql://db/stackit?%70assword=open-sesame"],
)
def test_a_password_that_makes_another_url_is_refused_too(tmp_path: Path, conninfo: str) -> None:
    with pytest.raises(ConfigError, match="a password has no place here") as mistake:
        loaded(tmp_path, f'[fleet]\npostgres = "{conninfo}"')
    assert "sesame" not in str(mistake.value)


def test_the_password_of_a_key_is_refused_with_its_own_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="let sslkey name a key without a password") as mistake:
        loaded(tmp_path, '[fleet]\npostgres = "host=db sslkey=a sslpassword=open-sesame"')
    assert "sesame" not in str(mistake.value)


@pytest.mark.parametrize("quoted", ["'open \\' sesame'", "'open sesame", '"open-sesame"'])
def test_a_quoted_password_is_redacted_as_a_whole(quoted: str) -> None:
    text = redacted(f"invalid: Password={quoted}")
    assert "sesame" not in text
