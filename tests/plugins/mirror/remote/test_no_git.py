"""What is no answer of git is no list of refs: a page in its place neither empties a mirror nor makes one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_house import GitHttp, House, Upstream, git, managed, pushed, refs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

from stackit import StackitError

ADVERTISED = "application/x-git-upload-pack-advertisement"
RESULT = "application/x-git-upload-pack-result"
MAIN = "refs/heads/main"

PAGES: dict[str, tuple[bytes, str | None, str]] = {
    "an HTML page of one line": (b"<html>Sign in</html>", "text/html; charset=utf-8", "an HTML page (200, text/html)"),
    "an HTML page": (b"<html>\n<body>\nSign in\n</html>\n", "text/html", "an HTML page (200, text/html)"),
    "a line of JSON": (b'{"error": "none"}', "application/json", "JSON (200, application/json)"),
    "JSON with an end of line": (b'{"error": "none"}\n', "application/json", "JSON (200, application/json)"),
    "nothing": (b"", "text/plain", "an empty answer (200, text/plain)"),
    "nothing of no type": (b"", None, "an empty answer (200, no content type)"),
    "text of no type": (b"hello", None, "a page (200, no content type)"),
    "zeros": (b"0" * 40 + b"\trefs/heads/main\n", "text/plain", "a page (200, text/plain)"),
    "no object id": (b"z" * 40 + b"\trefs/heads/main\n", "text/plain", "a page (200, text/plain)"),
    "a binary": (b"\0" * 100, "image/png", "a page (200, image/png)"),
    "a page with git's type": (b"<html>\n</html>\n", ADVERTISED, ""),
    "nothing with git's type": (b"", ADVERTISED, ""),
    "a line of JSON with git's type": (b'{"error": "none"}', ADVERTISED, ""),
}


class Pages(Resource):
    """Answers every request with one page, or, in git's place, only those that are posted."""

    isLeaf = True

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.page: tuple[bytes, str | None] | None = None
        self.posted: tuple[bytes, str | None] | None = None
        self.listed = b""
        self._port = reactor.listenTCP(0, Site(self, parsePOSTFormSubmission=False), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/octo/widget.git"

    def render(self, request: HttpRequest) -> bytes:
        body, content_type = (self.page if request.method == b"GET" else self.posted or self.page) or (b"", None)
        request.setHeader("connection", "close")
        request.responseHeaders.removeHeader("content-type")
        request.defaultContentType = None  # type: ignore[attr-defined]
        if content_type is not None:
            request.setHeader("content-type", content_type)
        request.setHeader("content-length", str(len(body)))
        return body

    def stop(self) -> Deferred[None]:
        return maybeDeferred(self._port.stopListening)


@pytest_twisted.async_yield_fixture
async def pages() -> AsyncIterator[Pages]:
    from twisted.internet import reactor  # noqa: PLC0415

    pages = Pages(reactor)
    yield pages
    await pages.stop()


async def fails(house: House, cause: str) -> str:
    with pytest.raises(StackitError) as caught:
        await house.keeper().sync(cause)
    return str(caught.value)


@pytest.mark.parametrize("page", PAGES)
@pytest_twisted.ensureDeferred
async def test_a_page_makes_no_mirror(pages: Pages, tmp_path: Path, page: str) -> None:
    body, content_type, said = PAGES[page]
    pages.page = (body, content_type)
    house = House(tmp_path / "state", managed(pages.url))
    error = await fails(house, "start")
    assert said in error
    assert not said or "not git: check the URL" in error
    assert not house.path().exists()
    assert house.keeper().state == "failing"
    assert house.keeper().standing.verified_at is None
    await house.stop()


@pytest.mark.parametrize("page", PAGES)
@pytest_twisted.ensureDeferred
async def test_a_page_deletes_nothing_and_no_push_is_done_by_it(pages: Pages, tmp_path: Path, page: str) -> None:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    upstream.set("refs/heads/other", upstream.refs()[MAIN])
    made = House(tmp_path / "state", managed(upstream))
    await made.keeper().sync("start")
    await made.stop()
    body, content_type, said = PAGES[page]
    pages.page = (body, content_type)
    house = House(tmp_path / "state", managed(pages.url))
    house.told = made.told
    before = refs(house.path())
    for cause in ("start", "manual", "backstop"):
        error = await fails(house, cause)
        assert said in error
        assert "deleted" not in error
        assert house.keeper().state == "failing"
    assert house.keeper().standing.verified_at is None
    with pytest.raises(StackitError):
        await house.push(pushed(house, before[MAIN], "1" * 40))
    with pytest.raises(StackitError):
        await house.push(pushed(house, "2" * 40, "1" * 40, ref="refs/heads/new"))
    assert house.announcements == []
    assert refs(house.path()) == before
    assert not house.named("healed")
    await house.stop()


@pytest.mark.parametrize("content_type", ["text/html", RESULT])
@pytest.mark.parametrize("body", [b"", b"<html>\n", b"{}", b"0000junk"])
@pytest_twisted.ensureDeferred
async def test_a_server_of_git_that_answers_the_question_for_refs_with_a_page_lists_nothing(
    pages: Pages, tmp_path: Path, body: bytes, content_type: str
) -> None:
    pages.page = (
        b"001e# service=git-upload-pack\n0000000eversion 2\n0013ls-refs=unborn\n0012fetch=shallow\n"
        b"0017object-format=sha1\n0000",
        ADVERTISED,
    )
    pages.posted = (body, content_type)
    house = House(tmp_path / "state", managed(pages.url))
    await fails(house, "start")
    assert not house.path().exists()
    assert house.keeper().state == "failing"
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_an_empty_repository_of_an_honest_server_is_in_step(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    upstream = Upstream(tmp_path / "upstream")
    server = GitHttp(reactor, tmp_path)
    house = House(tmp_path / "state", managed(server.url("upstream")))
    for cause in ("start", "manual", "backstop"):
        await house.keeper().sync(cause)
        assert house.keeper().state == "in_step"
    upstream.advance()
    await house.keeper().sync("manual")
    assert refs(house.path()) == upstream.refs()
    await house.stop()
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_dumb_server_is_mirrored_and_what_comes_in_its_place_is_not_believed(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    git(upstream.directory, "update-server-info")
    port = reactor.listenTCP(0, Site(File(str(tmp_path))), interface="127.0.0.1")  # type: ignore[attr-defined]
    house = House(tmp_path / "state", managed(f"http://127.0.0.1:{port.getHost().port}/upstream"))
    await house.keeper().sync("start")
    assert refs(house.path()) == upstream.refs()
    assert house.keeper().state == "in_step"
    before, after = upstream.refs()[MAIN], upstream.advance()
    git(upstream.directory, "update-server-info")
    await house.push(pushed(house, before, after))
    assert house.named("visible")
    (upstream.directory / "info" / "refs").write_bytes(b"")
    assert "an empty answer (200, " in await fails(house, "manual")
    assert refs(house.path()) == upstream.refs()
    await house.stop()
    await maybeDeferred(port.stopListening)
