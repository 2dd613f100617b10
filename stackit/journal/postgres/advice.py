"""What people can do about what the database refuses, or libpq on the way there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psycopg

_OTHERS = 0o077
# By SQLSTATE, or by what is said where a connection cannot be made, which has none.
_WAYS_OUT: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("53100",): "make room on the disk of the database",
        ("53300", "too many clients", "connection slots are reserved"): (
            "raise max_connections, or end what has the connections"
        ),
        ("too many connections for",): "raise its CONNECTION LIMIT: each node needs six",
        ("25006", "session is read-only"): "default_transaction_read_only is on, or none of the hosts is the primary",
        ("55P03",): "pg_locks and pg_stat_activity show who has it",
        ("certificate verify failed",): (
            "its certificate is not signed by the authority in sslrootcert, or has expired; "
            "openssl s_client -starttls postgres -connect HOST:PORT -CAfile FILE tells which"
        ),
        ("does not match host name",): "name the host as its certificate does; hostaddr=… says where that is",
        ("requires a valid client certificate",): (
            "name yours and its key by sslcert=… and sslkey=…, files that stackit may read"
        ),
        ("alert unknown ca", "alert bad certificate", "alert certificate"): (
            "it does not take the certificate in sslcert: see that its authority is in the server's ssl_ca_file"
        ),
        ("server does not support SSL",): "set ssl = on in its postgresql.conf, or choose another sslmode",
        ("failed: Connection refused", "failed: No such file or directory"): (
            "no server listens there: start it, or mend host and port in fleet.postgres"
        ),
        (
            "failed to resolve host",
            "could not translate host name",
            "Name or service not known",
            "name resolution",
        ): ("this machine knows no such name: mend it in fleet.postgres, or have it looked up"),
        ("server closed the connection unexpectedly",): "its log says why, or that of the proxy or pool between",
        (
            "timeout expired",
            "No route to host",
            "Network is unreachable",
        ): "nothing answers there: look at the address, the firewall, and the server",
        ("query_wait_timeout",): "the pool between has no connection left: each node needs six",
        ("unsupported startup parameter",): "the pool between does not take it: ALTER ROLE … SET does the same",
    }
)


def advice(error: psycopg.Error) -> str:
    """Return what to do about what the database or libpq says; empty where nothing is known that it does not say."""
    text = error.diag.message_primary or str(error)
    if "no password supplied" in text:
        return _about_password(error)
    found = (way for signs, way in _WAYS_OUT.items() if error.sqlstate in signs or any(sign in text for sign in signs))
    return next(found, "")


def _about_password(error: psycopg.Error) -> str:
    options = () if error.pgconn is None else error.pgconn.info
    named = next((os.fsdecode(each.val) for each in options if each.keyword == b"passfile" and each.val), None)
    # That of Path raises where there is no home, as in a container.
    file = Path(named or os.path.expanduser("~/.pgpass"))  # noqa: PTH111
    line = "HOST:PORT:DATABASE:USER:PASSWORD"
    try:
        mode = file.stat().st_mode
        with file.open("rb"):
            pass
    except FileNotFoundError:
        return f"there is no {file}: name a file with the line {line} in PGPASSFILE, or by passfile=…"
    except OSError as problem:
        return f"{file} cannot be read: {problem.strerror}"
    if mode & _OTHERS:
        return f"{file} is ignored, since others may read it (mode {mode & 0o777:o}): chmod 600"
    return f"{file} has no line {line} for it"
