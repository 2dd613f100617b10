"""The table ``[fleet]``: the database that several nodes share, and what this node does in their fleet."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec

from stackit.api.errors import ConfigError
from stackit.config import checks
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.setting import Setting, Where
from stackit.text.units import Duration

Role = Literal["receive", "handle", "mirror"]
ROLES: tuple[Role, ...] = ("receive", "handle", "mirror")
MOST_SHARDS = 4096
"""So many shards of a space have a number of their own: see journal/postgres/ownership.py."""

_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})", re.ASCII)
# In a URL any ":" with an "@" behind it: libpq tells it in words of its own, with what it takes for a port or a host.
_PASSWORD = re.compile(r"password\s*=|^\s*postgres(?:ql)?://.*:.*@", re.ASCII | re.IGNORECASE | re.DOTALL)
_KEY_PASSWORD = re.compile(r"\bsslpassword\s*=", re.ASCII | re.IGNORECASE)
_SHORTEST_LEASE = 1.0


def conninfo(text: str) -> None:
    """Check what says where the database is, as far as that can be told without it."""
    if not text.strip():
        raise ValueError('expected where the database is, such as "host=db1,db2 dbname=stackit user=stackit"')
    plain = unquote(text)  # the names of a URL's parameters may be quoted, too
    if _KEY_PASSWORD.search(plain):
        raise ValueError("sslpassword has no place here: let sslkey name a key without a password, mode 600")
    if _PASSWORD.search(text) or _PASSWORD.search(plain):
        raise ValueError(
            "a password has no place here: put it in a file as for psql (host:port:database:user:password, mode 600), "
            "and name that in PGPASSFILE or by passfile=…"
        )


def node_name(text: str) -> None:
    """Check the name of a node."""
    if not _NODE.fullmatch(text):
        raise ValueError("expected up to 63 letters, digits, '.', '_' and '-'")


def check_roles(names: Sequence[str]) -> None:
    """Check that a node has something to do."""
    if not names:
        raise ValueError('expected one or more of "receive", "handle" and "mirror"')


def check_lease(seconds: float) -> None:
    """Check the time for which a node owns its shards without a word."""
    if seconds < _SHORTEST_LEASE:
        raise ValueError("expected 1s or more: a node that is shortly busy would lose its work")


def check_shards(number: int) -> None:
    """Check the number of shards."""
    if not 1 <= number <= MOST_SHARDS:
        raise ValueError(f"expected 1 to {MOST_SHARDS}")


def check_copies(number: int) -> None:
    """Check the number of copies of a mirror."""
    if number not in (1, 2):
        raise ValueError("expected 1 or 2")


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[fleet]``: without ``postgres``, this process has its journal for itself, in SQLite.

    In a checked configuration of a fleet, ``node`` is a name, and ``address`` a URL.
    """

    postgres: Annotated[str | None, Setting("where the database is, as for `psql`", conninfo, restart=True)] = None
    node: Annotated[str | None, Setting("the name of this node", node_name, restart=True)] = None
    address: Annotated[
        str | None,
        Setting(
            "where other nodes reach the admin side of this one",
            checks.base_url,
            restart=True,
        ),
    ] = None
    roles: Annotated[
        tuple[Role, ...],
        Setting(
            'what the node does: `"receive"` takes deliveries, `"handle"` handles events, `"mirror"` keeps mirrors',
            check_roles,
            restart=True,
        ),
    ] = ROLES
    lease: Annotated[
        Duration,
        Setting("how long a node that is silent keeps its work before others take it", check_lease, restart=True),
    ] = Duration(5)
    rehome_after: Annotated[
        Duration,
        Setting("how long a node may be gone before its mirrors get another home", checks.positive, restart=True),
    ] = Duration(600)
    replicas_required: Annotated[
        int,
        Setting(
            "`/readyz` is red while the database waits for fewer synchronous standbys",
            checks.not_negative,
            restart=True,
        ),
    ] = 0
    copies: Annotated[int, Setting("on how many nodes each mirror is kept: `1` or `2`", check_copies, restart=True)] = 1
    shards: Annotated[int, Setting("in how many parts the work is divided", check_shards, restart=True)] = 256
    forward: Annotated[
        Literal["proxy", "redirect"],
        Setting("how a request is answered that only another node can answer", restart=True),
    ] = "proxy"

    @property
    def is_configured(self) -> bool:
        """Whether this process is a node of a fleet."""
        return self.postgres is not None


def fleet_table(table: FleetConfig, address: str | None, where: Where, mistakes: Mistakes = AT_ONCE) -> FleetConfig:
    """Return the table with the name and the address of the node, ``address`` where it has none. Raises ConfigError."""
    if table.postgres is None:
        given = next((name for name in FleetConfig.__struct_fields__ if getattr(table, name) != _default(name)), None)
        if given is not None:
            with mistakes.noted():
                raise ConfigError(
                    f"{where(f'fleet.{given}')}: of use with a database only; say where it is in fleet.postgres, or "
                    "leave the table out"
                )
        return table
    node = table.node or socket.gethostname().partition(".")[0]
    with mistakes.noted():
        if not table.node and not _NODE.fullmatch(node):
            raise ConfigError(f"{where('fleet.node')}: the host's name is no name for a node; give it one")
        if table.address is None and address is None:
            raise ConfigError(
                f"{where('fleet.address')}: missing; say where other nodes reach the admin side of this one"
            )
    return msgspec.structs.replace(table, node=node, address=table.address or address)


def missing_package(problem: ImportError) -> str:
    """Return a line for people about a package of a fleet that is not installed; raises any other problem."""
    if str(problem.name).startswith("stackit"):
        raise problem
    return f"a fleet needs packages that are not installed ({problem.name}): pip install 'stackit[fleet]'"


def _default(name: str) -> object:
    return getattr(FleetConfig(), name)
