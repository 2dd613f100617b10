"""The client of the admin side of the running stackit, and the search for its address and token."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Coroutine, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import treq
from twisted.internet.endpoints import UNIXClientEndpoint, quoteStringArgument
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionLost, DNSLookupError
from twisted.web.client import (
    URI,
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from stackit.api.errors import ConfigError, NotFoundError, NotServedError, StackitError
from stackit.api.reactor import Reactor, within
from stackit.cli.event_stream import EventParser, EventReader, ServerEvent
from stackit.cli.login_file import LoginFile
from stackit.config import checks
from stackit.config.load import load_only
from stackit.config.setting import checked

Result = TypeVar("Result")
_CONNECT_TIMEOUT = 5.0
_UNIX = "unix:"
_LOGIN = "stackit login"
# What the admin side answers where it has no such path, or not for such a request. The same statuses mean other things.
_NO_PATH = "not found"
_OTHER_METHOD = "this path answers "
_UNFINISHED = (RequestTransmissionFailed, ResponseFailed, ConnectionLost, TimeoutError)


class Token(msgspec.Struct, frozen=True):
    """A bearer token, and where it is from: ``STACKIT_API_TOKEN``, ``--token-file FILE``, or ``stackit login``."""

    text: str
    origin: str

    def __repr__(self) -> str:
        return f"Token({self.origin!r})"


@implementer(IAgentEndpointFactory)
class _Fixed:
    """Connects to one endpoint, whatever the URL of a request."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, _: URI) -> Any:
        """Return the endpoint: an IStreamClientEndpoint."""
        return self._endpoint


class HTTPAdminClient:
    """An ``AdminClient`` over HTTP.

    ``url`` is the admin side: a URL, or ``unix:`` and the path of a socket. ``prefix`` is the first API prefix.
    ``answered`` tells whether it gave an answer before.
    """

    def __init__(self, reactor: Reactor, url: str, prefix: str, token: Token | None, *, timeout: float) -> None:
        """``timeout`` is in seconds, for a whole exchange."""
        self.url = url
        self.answered = False
        self._reactor = reactor
        self._timeout = timeout
        self._prefix = prefix
        self._token = token
        self._headers = Headers({"X-Stackit-CSRF": ["1"], "X-Stackit-No-Redirect": ["1"]})
        if token is not None:
            self._headers.addRawHeader("Authorization", f"Bearer {token.text}")

    async def ask(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Return the decoded JSON of the answer to a request below the API prefix. ``body`` is sent as JSON.

        Raises StackitError, with the way out, where stackit does not answer or answers with an error.
        """
        producer = None if body is None else FileBodyProducer(BytesIO(msgspec.json.encode(body)))

        async def exchange(pool: HTTPConnectionPool) -> tuple[int, bytes]:
            response = await self._request(pool, method, path, query, self._headers, producer)
            return response.code, await treq.content(response)

        pool = HTTPConnectionPool(self._reactor)
        try:
            status, answer = await self._in_time(exchange(pool))
        finally:
            await pool.closeCachedConnections()
        return self._read(status, answer)

    async def watch(
        self,
        path: str,
        query: Mapping[str, str],
        on_event: Callable[[ServerEvent], object],
        last_id: str | None = None,
    ) -> str | None:
        """Have ``on_event`` called with each event of a stream below the API prefix, until it ends.

        Returns the id to go on with. Raises StackitError as ``ask`` does, where no stream begins.
        """
        headers = self._headers.copy()
        if last_id is not None:
            headers.addRawHeader("Last-Event-ID", last_id)

        async def begin(pool: HTTPConnectionPool) -> Any:
            response = await self._request(pool, "GET", path, query, headers)
            if response.code != 200 or response.headers.getRawHeaders(b"content-type") != [b"text/event-stream"]:
                self._read(response.code, await treq.content(response))
                raise StackitError(f"{self.url} has no stream at {path}: is it a stackit of another age?")
            return response

        response = await self._in_time(begin(HTTPConnectionPool(self._reactor, persistent=False)))
        self.answered = True
        parser = EventParser(on_event)
        parser.last_id = last_id
        reader = EventReader(self._reactor, parser)
        response.deliverBody(reader)
        await reader.over
        return parser.last_id

    async def _request(
        self,
        pool: HTTPConnectionPool,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Headers,
        producer: FileBodyProducer | None = None,
    ) -> Any:
        """Return the response to a request, its body unread."""
        origin = "http://localhost"
        if self.url.startswith(_UNIX):
            socket = UNIXClientEndpoint(self._reactor, self.url.removeprefix(_UNIX), timeout=_CONNECT_TIMEOUT)
            agent = Agent.usingEndpointFactory(self._reactor, _Fixed(socket), pool=pool)
        else:
            origin = self.url
            agent = Agent(self._reactor, connectTimeout=_CONNECT_TIMEOUT, pool=pool)
        url = origin + self._prefix + path + (f"?{urlencode(query)}" if query else "")
        # The agent itself, because treq's client cannot reach an IPv6 address; it follows no
        # redirect, which would take the token to wherever it points.
        return await agent.request(method.encode(), url.encode(), headers, producer)

    async def _in_time(self, exchange: Coroutine[Any, Any, Result]) -> Result:
        """Return the result of an exchange within the time for one. Raises StackitError where there is no answer."""
        try:
            return await within(self._reactor, self._timeout, exchange)
        except ConnectError as problem:
            if problem.osError == errno.EACCES and self.url.startswith(_UNIX):
                raise StackitError(
                    f"{self.url} is not yours to connect to: become the user that stackit runs as (or root)"
                ) from None
            raise self._unreachable() from None
        except (ConnectingCancelledError, DNSLookupError):
            raise self._unreachable() from None
        except _UNFINISHED:
            raise StackitError(
                f"{self.url} gave no complete answer: it broke off, or took longer than {self._timeout:g} seconds"
            ) from None

    def _unreachable(self) -> StackitError:
        return StackitError(
            f"no stackit answers at {self.url}; start it with: twistd -n stackit (or say where with --admin-url)"
        )

    def _read(self, status: int, body: bytes) -> Any:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise StackitError(
                f"what answers at {self.url} (status {status}) is not the admin side of stackit; see --admin-url"
            )
        if status == 401 and self._token is not None and self._token.origin == _LOGIN:
            raise StackitError(f"the login at {self.url} is over: log in again with: stackit login")
        if status == 401 and self._token is not None:
            raise StackitError(f"{self.url} refuses this token: is the one of {self._token.origin} still valid?")
        if status == 401:
            raise StackitError(
                f"{self.url} wants a token: log in (stackit login), set STACKIT_API_TOKEN, or give --token-file"
            )
        if not 200 <= status < 300:
            said = str(answer.get("error") or f"{self.url} answered with status {status}")
            if (status == 404 and said == _NO_PATH) or (status == 405 and said.startswith(_OTHER_METHOD)):
                raise NotServedError(said)
            raise (NotFoundError if status == 404 else StackitError)(said)
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
    settings, where = load_only(("admin.listen", "api_prefixes"), {"config": config}, environ, cwd=cwd)
    prefix = checked(where("api_prefixes"), checks.prefixes, settings.api_prefixes, key="api_prefixes")[0]
    found = _checked_url(url, cwd) if url is not None else _url_of(settings.admin.listen, where("admin.listen"))
    token = _token(token_file, environ, cwd) or _token_of_login(found, environ)
    return HTTPAdminClient(reactor, found, prefix, token, timeout=timeout)


def _checked_url(url: str, cwd: Path) -> str:
    if url.startswith(_UNIX):
        try:
            path = checks.path(url.removeprefix(_UNIX), cwd)
            checks.endpoint(_UNIX + quoteStringArgument(str(path)))
        except ValueError as problem:
            raise ConfigError(f"--admin-url: {problem} (behind unix:)") from None
        return f"{_UNIX}{path}"
    expected = "--admin-url: expected a URL such as http://127.0.0.1:8081, or unix:/run/stackit/admin.sock"
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


def _url_of(listen: str, where: str) -> str:
    # Twisted makes an endpoint of systemd's only in a process that was given its socket.
    known = not listen.startswith("systemd:")
    listening: checks.Listening | None = checked(where, checks.endpoint, listen, key="listen") if known else None
    if listening is not None and listening.socket is not None:
        return f"{_UNIX}{listening.socket.path}"
    url = listening.url if listening is not None and listen.startswith("tcp") else None
    if url is None:
        raise ConfigError(f"{where}: {listen} tells no address to ask: give --admin-url")
    return url


def file_token(token_file: str, cwd: Path) -> Token:
    """Return the bearer token in a file. Raises ConfigError."""
    origin = f"--token-file {token_file}"
    try:
        return Token(checks.token((cwd / token_file).read_text("utf-8-sig").strip()), origin)
    except OSError as problem:
        raise ConfigError(f"{origin}: cannot be read: {problem.strerror}") from None
    except ValueError as problem:
        reason = "not text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        raise ConfigError(f"{origin}: {reason}") from None


def _token(token_file: str | None, environ: Mapping[str, str], cwd: Path) -> Token | None:
    if token_file is not None:
        return file_token(token_file, cwd)
    text = environ.get("STACKIT_API_TOKEN", "").strip()
    try:
        return Token(checks.token(text), "STACKIT_API_TOKEN") if text else None
    except ValueError as problem:
        raise ConfigError(f"STACKIT_API_TOKEN: {problem}") from None


def _token_of_login(url: str, environ: Mapping[str, str]) -> Token | None:
    kept = LoginFile(environ).get(url)
    return None if kept is None else Token(kept.token, _LOGIN)
