"""A bare client of the pretend GitHub's API: it sends what a test says, and follows nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import jwt
import msgspec
import treq
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import Installation, PretendApp
from stackit.testing.http_client import Answer


class ApiClient:
    """Requests below a base: the root as on github.com, or ``/api/v3``."""

    def __init__(self, github: PretendGitHub) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.github = github
        self._pool = HTTPConnectionPool(reactor)
        self.agent = Agent(reactor, connectTimeout=20, pool=self._pool)

    async def ask(
        self,
        method: str,
        path: str,
        credential: str = "",
        body: Any = None,
        headers: Mapping[str, str] = {},
        base: str | None = None,
    ) -> Answer:
        """Send a request; ``path`` may be a whole URL."""
        sent = {"User-Agent": "test", **({"Authorization": f"Bearer {credential}"} if credential else {}), **headers}
        url = path if path.startswith("http:") else f"{self.github.web_url if base is None else base}{path}"
        data = None if body is None else msgspec.json.encode(body)
        raw = Headers({name: [value] for name, value in sent.items()})
        producer: Any = None if data is None else FileBodyProducer(BytesIO(data))
        response: Any = await self.agent.request(method.encode(), url.encode(), raw, producer)
        found = {
            name.decode().lower(): b", ".join(values).decode() for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, found, await treq.content(response))

    async def get(self, path: str, credential: str = "", **named: Any) -> Answer:
        return await self.ask("GET", path, credential, **named)

    async def pages(self, path: str, credential: str) -> list[Any]:
        """Follow the links of a list, and return the bodies of its pages."""
        found, url = [], path
        while url:
            answer = await self.get(url, credential)
            assert answer.status == 200, answer.body
            found.append(answer.json())
            url = links(answer).get("next", "")
        return found

    async def mint(self, installation: Installation, body: Any = None, **named: Any) -> Answer:
        """Ask for a token of an installation."""
        path = f"/app/installations/{installation.id}/access_tokens"
        return await self.ask("POST", path, self.jwt(installation.app), body, **named)

    async def token(self, installation: Installation, body: Any = None) -> str:
        """Return a new token of an installation."""
        answer = await self.mint(installation, body)
        assert answer.status == 201, answer.body
        return str(answer.json()["token"])

    def jwt(self, app: PretendApp, *, key: str = "", **claims: Any) -> str:
        """Return a JWT of an App; a claim that is None is left out."""
        now = int(self.github.clock.now())
        made = {"iat": now - 60, "exp": now + 540, "iss": str(app.id), **claims}
        sent = {name: value for name, value in made.items() if value is not None}
        return jwt.encode(sent, key or app.private_key, algorithm="RS256")

    async def close(self) -> None:
        await self._pool.closeCachedConnections()


def links(answer: Answer) -> dict[str, str]:
    """Return the addresses of the ``Link`` header by their relation."""
    return {name: url for url, name in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers.get("link", ""))}
