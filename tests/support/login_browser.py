"""A browser of somebody who logs in with GitHub: it keeps cookies, and follows nothing by itself."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import msgspec
import treq


class Page(msgspec.Struct):
    """What a browser was answered."""

    status: int
    text: str
    location: str


class Browser:
    """A browser, with the cookies of one stackit, whose admin side is at a URL."""

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url
        self.cookies: dict[str, str] = {}

    async def get(self, url: str, *, accept: str = "text/html") -> Page:
        return await self._ask("GET", url, {"Accept": accept})

    async def submit(self, url: str, origin: str, **fields: str) -> Page:
        """Send a form of a page of ``origin``."""
        return await self._ask("POST", url, {"Accept": "text/html", "Origin": origin}, fields)

    async def _ask(
        self, method: str, url: str, headers: dict[bytes | str, bytes | str], form: dict[str, str] | None = None
    ) -> Page:
        ours = url.startswith(self.admin_url)
        if ours and self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer: Any = await treq.request(
            method, url, headers=headers, data=form, allow_redirects=False, persistent=False, timeout=60
        )
        text = (await treq.content(answer)).decode()
        for line in answer.headers.getRawHeaders("set-cookie") or ():
            name, _, value = line.partition(";")[0].partition("=")
            assert "HttpOnly" in line
            assert "SameSite=Lax" in line
            self.cookies[name] = value
        return Page(answer.code, text, (answer.headers.getRawHeaders("location") or [""])[0])

    async def at_github(self) -> str:
        """Ask for a page, follow the button of the login, say yes at GitHub; return where it sends the browser."""
        wanted = f"{self.admin_url}/api/v1/status?x=<b>"
        sent = await self.get(wanted)
        assert sent.status == 303
        page = await self.get(f"{self.admin_url}{sent.location}")
        (button,) = re.findall(r'href="([^"]*/login/github[^"]*)"', page.text)
        leaving = await self.get(html.unescape(button))
        assert leaving.status == 303, leaving.text
        back = await self.get(leaving.location)
        assert back.status == 302, back.text
        return back.location

    async def who(self) -> Any:
        """Ask who one is; None where nobody is known."""
        answer = await self.get(f"{self.admin_url}/api/v1/session", accept="application/json")
        return json.loads(answer.text) if answer.status == 200 else None

    async def log_in(self) -> Any:
        page = await self.get(await self.at_github())
        assert page.status == 303, page.text
        assert page.location.startswith("/api/v1/status")
        return await self.who()
