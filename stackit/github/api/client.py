"""A client of GitHub's API for one credential."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import TypeVar

import msgspec

from stackit.api.github import ApiError, ApiReason, Params
from stackit.api.version import VERSION
from stackit.github.api.address import next_link
from stackit.github.api.answer import HttpAnswer, NoAnswer
from stackit.github.api.api import Api
from stackit.github.api.clock import GitHubClock
from stackit.github.api.credentials import Credential
from stackit.github.api.expiries import HEADER as EXPIRY
from stackit.github.api.limits import Gate, Held, LimitKind
from stackit.github.api.refusals import message_of, reason_of, refuses_version
from stackit.github.api.transport import LARGEST
from stackit.http.client.retry_after import parse_retry_after

API_VERSION = "2022-11-28"
"""The version of the API that is asked for: the oldest that has a date, which every GitHub of today knows."""
PATIENCE = 10.0
"""Seconds that a request waits for a limit by itself."""
_MOST_HOPS = 3
_MOST_TRIES = 5
_LONGEST_MESSAGE = 400
_REDIRECTS = (301, 302, 307, 308)
_LIMIT_WORDS: Mapping[LimitKind, str] = {
    "rate_limited": "the limit of requests of this credential is used up",
    "secondary_limit": "GitHub asks for fewer requests with this credential",
}

T = TypeVar("T")


class ApiClient:
    """Requests with one credential: one at a time, and none while a limit of it holds.

    A route is a path such as ``/repos/{owner}/{repo}``; its values are given by name. ``patience`` is how many seconds
    a request waits for the end of a limit; one that would have to wait longer fails at once.
    """

    def __init__(self, api: Api, credential: Credential, *, patience: float = PATIENCE, largest: int = LARGEST) -> None:
        self.credential = credential
        self._api = api
        self._patience = patience
        self._largest = largest

    @property
    def api_url(self) -> str:
        """Return the address of the API."""
        return self._api.url.text

    @property
    def clock(self) -> GitHubClock:
        """Return GitHub's clock."""
        return self._api.clock

    async def get(self, route: str, type: type[T], params: Params | None = None, **values: object) -> T:  # noqa: A002
        """Return the decoded answer to a GET. Raises ApiError."""
        return (await self._ask("GET", route, values, params, None, type))[0]

    async def pages(
        self,
        route: str,
        type: type[T],  # noqa: A002
        params: Params | None = None,
        **values: object,
    ) -> AsyncIterator[T]:
        """Yield every page of a listing, decoded; a hundred entries each, unless ``per_page`` says otherwise.

        Follows the links of GitHub and nothing else. Raises ApiError for the first page that is not as it should be:
        what came until then is no listing.
        """
        page, link, url = await self._ask("GET", route, values, {"per_page": 100, **(params or {})}, None, type)
        seen = {url}
        yield page
        while link is not None:
            following = self._api.url.follow(link, url)
            if following is None or following in seen:
                problem = "leads back" if following else f"is not below {self.api_url}"
                raise self._error("shape", "GET", route, values, f"the link to its next page {problem}", status=200)
            seen.add(following)
            page, link, url = await self._ask("GET", route, values, None, None, type, url=following)
            yield page

    async def send(
        self,
        method: str,
        route: str,
        body: object = None,
        type: type[T] = object,  # type: ignore[assignment]  # noqa: A002
        **values: object,
    ) -> T:
        """Return the decoded answer to a POST, PATCH, PUT or DELETE, with ``body`` as JSON. Raises ApiError.

        Without a ``type``, any answer will do, also none.
        """
        return (await self._ask(method, route, values, None, body, type))[0]

    async def _ask(
        self,
        method: str,
        route: str,
        values: Mapping[str, object],
        params: Params | None,
        body: object,
        type: type[T],  # noqa: A002
        *,
        url: str | None = None,
    ) -> tuple[T, str | None, str]:
        """Return the decoded answer, its link to the next page, and the URL that it is from at last."""
        url = url or self._api.url.fill(route, values, params)
        content = None if body is None else msgspec.json.encode(body)
        hops = 0
        while True:
            answer = await self._authorized(method, route, values, url, content)
            if answer.status not in _REDIRECTS:
                break
            hops += 1
            following = self._api.url.follow(answer.headers.get("location", ""), url)
            if following is None or hops > _MOST_HOPS:
                problem = "in circles" if following else f"to what is not below {self.api_url}"
                raise self._error("shape", method, route, values, f"it redirects {problem}", status=answer.status)
            url = following
        return self._decoded(answer, type, method, route, values), next_link(answer.headers.get("link")), url

    async def _authorized(
        self, method: str, route: str, values: Mapping[str, object], url: str, content: bytes | None
    ) -> HttpAnswer:
        """Return an answer that is no error, after more tries where the credential has something else to show."""
        tries = 0
        while True:
            tries += 1
            answer, authorization, limit = await self._exchange(method, route, values, url, content)
            if answer.status < 400:
                return answer
            if (
                tries < _MOST_TRIES
                and limit is None
                and answer.status in (401, 403)
                and self.credential.rejected(authorization, answer.status)
            ):
                continue
            if answer.status == 400 and self._api.knows_version and refuses_version(answer):
                self._api.knows_version = False
                continue
            raise self._refusal(answer, limit, method, route, values)

    async def _exchange(
        self, method: str, route: str, values: Mapping[str, object], url: str, content: bytes | None
    ) -> tuple[HttpAnswer, str, LimitKind | None]:
        """Send one request when its turn has come; return the answer, the credential, and the limit that refused it."""
        api, gate = self._api, self._api.limits.gate(self.credential.key)
        write = method != "GET"
        try:
            gate.check(api.limits.resource(route), self._patience)  # who is more patient may be waiting with the lock
        except Held as held:
            raise self._held(held, method, route, values) from None
        async with gate.lock:
            try:
                await gate.wait(api.limits.resource(route), write=write, patience=self._patience)
            except Held as held:
                raise self._held(held, method, route, values) from None
            authorization = await self.credential.authorization()
            known = None if write else api.etags.get(authorization, url)
            try:
                answer = await api.transport.request(
                    method, url, self._headers(authorization, known, content), content, largest=self._largest
                )
            except NoAnswer as problem:
                api.counts.count(route, problem.reason)
                raise self._error(problem.reason, method, route, values, str(problem)) from None
            finally:
                if write:
                    gate.sent_write()
            api.counts.count(route, str(answer.status))
            return self._learned(answer, known, authorization, gate, route, url, write=write)

    def _learned(
        self,
        answer: HttpAnswer,
        known: HttpAnswer | None,
        authorization: str,
        gate: Gate,
        route: str,
        url: str,
        *,
        write: bool,
    ) -> tuple[HttpAnswer, str, LimitKind | None]:
        """Take from an answer what it says of clock, limits and credential; return the kept one for a 304."""
        api, headers = self._api, answer.headers
        if "age" not in headers:  # not from a cache on the way
            api.clock.observe(headers.get("date"), answer.seconds)
        if resource := headers.get("x-ratelimit-resource"):
            api.limits.learn_resource(route, resource)
        limit = gate.learn(
            api.limits.resource(route),
            answer.status,
            headers,
            message_of(answer) if answer.status in (403, 429) else "",
            api.clock.now(),
        )
        self.credential.answered(headers)
        api.expiries.note(authorization, headers.get(EXPIRY))
        if answer.status == HTTPStatus.NOT_MODIFIED and known is not None:
            return known, authorization, limit
        if not write and answer.status == HTTPStatus.OK:
            api.etags.put(authorization, url, answer)
        return answer, authorization, limit

    def _headers(self, authorization: str, known: HttpAnswer | None, content: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "User-Agent": f"stackit/{VERSION}"}
        if self._api.knows_version:
            headers["X-GitHub-Api-Version"] = API_VERSION
        if authorization:
            headers["Authorization"] = authorization
        if known is not None:
            headers["If-None-Match"] = known.headers["etag"]
        if content is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _decoded(
        self,
        answer: HttpAnswer,
        type: type[T],  # noqa: A002
        method: str,
        route: str,
        values: Mapping[str, object],
    ) -> T:
        if type is object and not answer.body:
            return None  # type: ignore[return-value]  # no content, and none was asked for
        try:
            return msgspec.json.decode(answer.body, type=type)
        except msgspec.DecodeError as problem:
            # A ValidationError names the place in the answer and the type that it should have: nothing of the content.
            what = str(problem) if isinstance(problem, msgspec.ValidationError) else "it is no JSON"
        except (RecursionError, UnicodeDecodeError):
            what = "it is no JSON"
        said = f"the answer is not as the API has it: {what}"
        raise self._error("shape", method, route, values, said, status=answer.status)

    def _refusal(
        self, answer: HttpAnswer, limit: LimitKind | None, method: str, route: str, values: Mapping[str, object]
    ) -> ApiError:
        message = message_of(answer)
        text = f"status {answer.status}" + (f": {message}" if message else "")
        retry_at = None
        if limit is not None:
            _, seconds = self._api.limits.gate(self.credential.key).hold(self._api.limits.resource(route))
            retry_at = self._api.now() + seconds
        elif answer.status >= 500:
            wait = parse_retry_after(answer.headers.get("retry-after", "").strip(), self._api.clock.now())
            retry_at = None if wait is None else self._api.now() + wait
        reason = limit or reason_of(answer.status, message)
        return self._error(reason, method, route, values, text, status=answer.status, retry_at=retry_at)

    def _held(self, held: Held, method: str, route: str, values: Mapping[str, object]) -> ApiError:
        text = f"not sent: {_LIMIT_WORDS[held.kind]}, for {held.seconds:.0f} seconds more"
        return self._error(held.kind, method, route, values, text, retry_at=self._api.now() + held.seconds)

    def _error(
        self,
        reason: ApiReason,
        method: str,
        route: str,
        values: Mapping[str, object],
        text: str,
        *,
        status: int | None = None,
        retry_at: float | None = None,
    ) -> ApiError:
        api = self._api
        line = f"{api.url.name}: {method} {api.url.shown(route, values)}: {text}"
        message = " ".join(api.redact(line).split())
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}…"
        return ApiError(message, reason=reason, status=status, retry_at=retry_at)
