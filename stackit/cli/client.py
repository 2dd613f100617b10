"""The client of the admin side of the running stackit, and the search for its address and token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import treq
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers

from stackit.api.errors import ConfigError, StackitError
from stackit.api.reactor import Reactor
from stackit.config import checks
from stackit.config.model import FILE_NAME, AdminConfig, FileTable
from stackit.config.toml import read_toml

_CONNECT_TIMEOUT = 5.0
_UNREACHABLE = (ConnectError, ConnectingCancelledError, DNSLookupError)
_UNFINISHED = (RequestTransmissionFailed, ResponseFailed, ConnectionLost, defer.TimeoutError)


class HTTPAdminClient:
    """An ``AdminClient`` over HTTP.

    ``url`` is the admin side, ``prefix`` the first API prefix. ``answered`` tells whether it gave an answer before.
    """

    def __init__(self, reactor: Reactor, url: str, prefix: str, token: str | None, *, timeout: float) -> None:
        """``timeout`` is in seconds, for a whole exchange; ``token`` is the bearer token, if one is wanted."""
        self.url = url
        self.answered = False
        self._reactor = reactor
        self._timeout = timeout
        self._prefix = prefix
        self._headers = Headers({"X-Stackit-CSRF": ["1"]})
        if token is not None:
            self._headers.addRawHeader("Authorization", f"Bearer {token}")

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the decoded JSON of the answer to a request below the API prefix.

        Raises StackitError, with the way out, where stackit does not answer or answers with an error.
        """
        pool = HTTPConnectionPool(self._reactor)
        agent = Agent(self._reactor, connectTimeout=_CONNECT_TIMEOUT, pool=pool)
        url = self.url + self._prefix + path + (f"?{urlencode(query)}" if query else "")

        # The agent itself, because treq's client cannot reach an IPv6 address; it follows no
        # redirect, which would take the token to wherever it points.
        async def exchange() -> tuple[int, bytes]:
            response = await agent.request(method.encode(), url.encode(), self._headers)
            return response.code, await treq.content(response)

        try:
            status, body = await Deferred.fromCoroutine(exchange()).addTimeout(
                self._timeout, cast("IReactorTime", self._reactor)
            )
        except _UNREACHABLE:
            raise StackitError(
                f"no stackit answers at {self.url}; start it with: twistd -n stackit (or say where with --admin-url)"
            ) from None
        except _UNFINISHED:
            raise StackitError(
                f"{self.url} gave no complete answer: it broke off, or took longer than {self._timeout:g} seconds"
            ) from None
        finally:
            await pool.closeCachedConnections()
        return self._read(status, body)

    def _read(self, status: int, body: bytes) -> Any:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise StackitError(
                f"what answers at {self.url} (status {status}) is not the admin side of stackit; see --admin-url"
            )
        if status == 401:
            raise StackitError(f"{self.url} wants a token: set STACKIT_API_TOKEN, or give --token-file")
        if not 200 <= status < 300:
            raise StackitError(str(answer.get("error") or f"{self.url} answered with status {status}"))
        self.answered = True
        return answer


def find(
    reactor: Reactor,
    *,
    url: str | None,
    config: str | None,
    token_file: str | None,
    timeout: float,
    environ: Mapping[str, str],
    cwd: Path,
) -> HTTPAdminClient:
    """Return a client of the admin side: by the options, else the environment, else the configuration file.

    Only two settings of the file are looked at: the commands work also for a person who may not read the secrets that
    it names. Raises ConfigError.
    """
    settings = _settings(config, environ, cwd)
    listen = environ.get("STACKIT_ADMIN_LISTEN") or settings.admin.listen
    try:
        prefix = checks.prefixes(settings.api_prefixes)[0]
    except ValueError as problem:
        raise ConfigError(f"api_prefixes: {problem}") from None
    where = _checked_url(url) if url is not None else _url_of(listen)
    return HTTPAdminClient(reactor, where, prefix, _token(token_file, environ, cwd), timeout=timeout)


def _settings(config: str | None, environ: Mapping[str, str], cwd: Path) -> FileTable:
    named = config or environ.get("STACKIT_CONFIG")
    file = cwd / (named or FILE_NAME)
    if not named and not file.exists():
        return FileTable()
    tables = read_toml(file)
    defaults = FileTable()
    admin, prefixes = tables.get("admin", {}), tables.get("api_prefixes", defaults.api_prefixes)
    listen = admin.get("listen", defaults.admin.listen) if isinstance(admin, dict) else None
    if not isinstance(listen, str):
        raise ConfigError(f"{file}: admin.listen: expected a Twisted endpoint in quotes")
    if not isinstance(prefixes, list | tuple) or not all(isinstance(each, str) for each in prefixes):
        raise ConfigError(f"{file}: api_prefixes: expected a list of paths in quotes")
    return FileTable(admin=AdminConfig(listen=listen), api_prefixes=tuple(prefixes))


def _checked_url(url: str) -> str:
    expected = "--admin-url: expected a URL such as http://127.0.0.1:8081"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable():
        raise ConfigError(expected)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{expected}, without user name, query or fragment")
    return url.rstrip("/")


def _url_of(listen: str) -> str:
    try:
        listening = checks.endpoint(listen)
    except ValueError as problem:
        raise ConfigError(f"admin.listen: {problem}") from None
    if not listen.startswith("tcp") or not listening.port:
        raise ConfigError(f"admin.listen is {listen}, which tells no address to ask: give --admin-url")
    host = listening.host
    if host in (None, "", "0.0.0.0"):  # noqa: S104 - listening everywhere includes loopback
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{listening.port}" if ":" in str(host) else f"http://{host}:{listening.port}"


def _token(token_file: str | None, environ: Mapping[str, str], cwd: Path) -> str | None:
    try:
        if token_file is not None:
            return checks.token((cwd / token_file).read_text("utf-8").strip())
        text = environ.get("STACKIT_API_TOKEN", "").strip()
        return checks.token(text) if text else None
    except OSError as problem:
        raise ConfigError(f"--token-file {token_file}: cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        origin = f"--token-file {token_file}" if token_file is not None else "STACKIT_API_TOKEN"
        reason = "not text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        raise ConfigError(f"{origin}: {reason}") from None
