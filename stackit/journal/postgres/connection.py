"""Connections to the database: their settings, and what goes wrong with them as one line for people."""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec
import psycopg
from psycopg import conninfo

from stackit.api.errors import JournalError
from stackit.journal.postgres import arrays
from stackit.journal.postgres.advice import advice
from stackit.journal.postgres.hosts import LastHost
from stackit.journal.postgres.socket_cutter import answers_within

_CONNECT_TIMEOUT = 2
"""Seconds in which each of the hosts has to answer; libpq takes no less."""
_OLDEST_SERVER = 140000
"""PostgreSQL 14, as libpq tells a version."""
_LOCK_TIMEOUT = 3.0
"""Seconds that a statement waits for a lock of somebody else."""
_FEW_KEEPALIVES = 3
"""Probes of TCP without an answer, a second apart, after which a connection is given up on either side."""
_LONGEST = 500
"""Characters of what is told of an error."""
_TAKES_WRITES = "SELECT NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'"
_TABLE_FILE = re.compile(r'/\d+(?:\.\d+)?"(?=: )')
# What libpq adds in lines of its own: questions and guesses, for which ``advice`` is there.
_HINT = re.compile(r"\n\t[^\n]*")
_NEXT_TRY = re.compile(r"\n(?=connection to server )")
_PREFIX = re.compile(
    r"^(?:[^\n]*?hostaddr: [^\n]*?: )?(?:connection (?:failed|is bad)|consuming input failed|sending query failed): "
)

_SETTINGS = """
    SELECT set_config('synchronous_commit',
            CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
                ELSE current_setting('synchronous_commit') END, false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('statement_timeout', '0', false),
        set_config('idle_session_timeout', '0', false),
        set_config('client_min_messages', 'notice', false),
        set_config('idle_in_transaction_session_timeout', %(lease)s, false),
        set_config('lock_timeout', %(lock)s, false),
        set_config('tcp_user_timeout', %(silence)s, false),
        set_config('tcp_keepalives_idle', %(keepalive)s, false),
        set_config('tcp_keepalives_interval', %(keepalive)s, false),
        set_config('tcp_keepalives_count', %(keepalives)s, false),
        set_config('bytea_output', 'hex', false),
        set_config('extra_float_digits', '1', false),
        set_config('array_nulls', 'on', false),
        set_config('standard_conforming_strings', 'on', false)
"""
# Newer servers have it; it would cancel the wait for a standby.
_UNLIMITED = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout' AND setting <> '0'"
)
# On a queue, whose tables are full and empty by turns, every estimate is wrong: the only good plan goes by indexes.
_BY_INDEXES = """
    SELECT set_config(name, value, false) FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off'),
        ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')) AS s (name, value)
"""


class Unconfirmed(psycopg.OperationalError):
    """A commit that a standby was to confirm, and did not: it may be lost with the server that has it."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that knows when a commit did not get what it waited for.

    Where somebody cancels the wait for a standby, the server says that the commit succeeded, with a warning.
    """

    _is_unconfirmed = False

    def check_confirmed(self) -> None:
        """Raise Unconfirmed where a commit of this connection was not confirmed by a standby."""
        if self._is_unconfirmed:
            raise Unconfirmed("no standby has confirmed it, and the wait for one was cancelled")

    def note(self, notice: psycopg.errors.Diagnostic) -> None:
        """Take a notice of the server. The name of its function is told in every language."""
        if notice.source_function == "SyncRepWaitForLSN":
            self._is_unconfirmed = True


class Server(msgspec.Struct, frozen=True):
    """The database of a fleet: where it is, as libpq wants it, and the lease (seconds) of its nodes.

    ``patience`` are the seconds in which a write is tried again while the database is away: GitHub waits ten for its
    answer. Within ``first_answer`` (seconds) a server that took a connection has to answer: a pool may take more of
    them than it has servers for.
    """

    conninfo: str
    lease: float = 5.0
    patience: float = 5.0
    first_answer: float = 5.0
    last_host: LastHost = msgspec.field(default_factory=LastHost)

    def parameters(self) -> dict[str, Any]:
        """Return what libpq understands of ``conninfo``, by keyword. Raises JournalError."""
        try:
            return conninfo.conninfo_to_dict(self.conninfo)
        except (psycopg.ProgrammingError, UnicodeError):
            raise _not_understood() from None

    def connect(self, purpose: str, *, by_indexes: bool = True) -> Connection:
        """Return a new connection in autocommit mode; ``purpose`` is what it is called in the server.

        Of several hosts, the one that takes writes; that of the last connection is tried first. With ``by_indexes``,
        the planner is told that tables of the queue are never scanned. Blocks for some seconds at most. Raises
        JournalError.
        """
        # A server that is not heard is given up before others may bury this node.
        silence = max(int(self.lease * 600), 500)
        parameters = self.parameters()
        ours: dict[str, Any] = {
            "application_name": f"stackit {purpose}",
            "client_encoding": "UTF8",
            "target_session_attrs": "read-write",
            "tcp_user_timeout": silence,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": _FEW_KEEPALIVES,
            "connect_timeout": parameters.get("connect_timeout", _CONNECT_TIMEOUT),
        }
        values = {
            "lease": f"{int(self.lease * 1000)}ms",
            "lock": f"{int(_LOCK_TIMEOUT * 1000)}ms",
            "silence": f"{silence}ms",
            "keepalive": "1",
            "keepalives": str(_FEW_KEEPALIVES),
        }
        _quieten()
        try:
            place = conninfo.make_conninfo(**{**self.last_host.first(parameters), **ours})
            connection = Connection.connect(place, autocommit=True)
        except psycopg.Error as error:
            raise unreachable(error) from None
        except UnicodeError:  # of a host, which can be the name of none
            raise _not_understood() from None
        except OSError as error:  # no descriptor is left
            raise JournalError(
                f"the database of the fleet (fleet.postgres) cannot be used: {error.strerror or error}"
            ) from None
        try:
            self.last_host.took(parameters, connection.info)
            _check_version(connection)
            connection.prepare_threshold = 0
            connection.prepared_max = None
            arrays.register(connection.adapters)
            connection.add_notice_handler(connection.note)
            with answers_within(connection, self.first_answer):
                # Once in a connection, so unprepared.
                connection.execute(_SETTINGS, values, prepare=False)
                connection.execute(_UNLIMITED, prepare=False)
                if by_indexes:
                    connection.execute(_BY_INDEXES, prepare=False)
        except TimeoutError:
            connection.close()
            raise JournalError(
                f"the database of the fleet (fleet.postgres) cannot be used: it took the connection, and has not "
                f"answered for {self.first_answer:g} s; a pool between has to have six connections for each node"
            ) from None
        except psycopg.Error as error:
            connection.close()
            raise unreachable(error) from None
        except JournalError:
            connection.close()
            raise
        return connection


def _not_understood() -> JournalError:
    """Return the error without the text of libpq, which may have a part of a password."""
    return JournalError(
        'fleet.postgres is not understood: write it as for psql, "host=db1,db2 dbname=stackit user=stackit"'
    )


def _check_version(connection: Connection) -> None:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise JournalError(f"the database of the fleet is PostgreSQL {version // 10000}: stackit needs 14 or newer")


def takes_writes(connection: Connection) -> bool:
    """Return whether the server of a connection is still the one to be written to. Raises psycopg.Error."""
    return connection.execute(_TAKES_WRITES).fetchone() == (True,)


def _quieten() -> None:
    """Keep off standard error what psycopg logs of a connection that was cut: whoever uses it tells of that."""
    logger = logging.getLogger("psycopg")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def unreachable(error: psycopg.Error) -> JournalError:
    """Return the error for people where the database cannot be reached: one line, without a credential."""
    return JournalError(f"the database of the fleet (fleet.postgres) cannot be used: {reason(error)}")


def reason(error: BaseException) -> str:
    """Return what the server or libpq says, as one line, with the way out where one is known."""
    said = error.diag.message_primary if isinstance(error, psycopg.Error) else None  # without the row that it is about
    text = _TABLE_FILE.sub('/…"', _each_host(said or str(error)))  # on a full disk each attempt may meet another one
    known = text[:_LONGEST] or type(error).__name__
    what_to_do = advice(error) if isinstance(error, psycopg.Error) else ""
    return f"{known}; {what_to_do}" if what_to_do else known


def _each_host(text: str) -> str:
    """Return the text of an error as one line; of several hosts, or tries at one of them, what each of them said."""
    heading, *hosts = re.split(r"^- host: ", _HINT.sub("", text), flags=re.MULTILINE)
    tries = [each for host in hosts or [heading] for each in _NEXT_TRY.split(_PREFIX.sub("", host))]
    return "; ".join(dict.fromkeys(" ".join(each.split()) for each in tries))
