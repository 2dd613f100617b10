"""A page in place of a list of refs neither empties a mirror nor makes one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, git, managed, pushed, refs
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
        Resource.__init__(self)
        self.page: tuple[bytes, str | None] | None = None
        self.posted: tuple[bytes, str | None] | None = None
        self.listed = b""
        self._port = reactor.listenTCP(0, Site(self, parsePOSTFormSubmission=False), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/octo/widget.git"

    def render(self, request: HttpRequest) -> bytes:
        body, content_type = (self.page if request.method == b"GET" else self.posted or self.page) or (b"", None)
        request.setHeader("connection", "close")
        request.responseHeaders.removeHeader("content-type")
        request.defaultContentType = None  # type: ignore[attr-defined]  # of Twisted, and not in its types
        if content_type is not None:
            request.setHeader("content-type", content_type)
        request.setHeader("content-length", str(len(body)))
        return body

    def stop(self) -> Deferred[None]:
        return maybeDeferred(self._port.stopListening)


@pytest_twisted.async_yield_fixture
async def pages() -> AsyncIterator[Pages]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    pages = Pages(reactor)
    yield pages
    await pages.stop()


async def fails(harness: Harness, cause: str) -> str:
    with pytest.raises(StackitError) as caught:
        await harness.worker().sync(cause)
    return str(caught.value)


@pytest.mark.parametrize("page", PAGES)
@pytest_twisted.ensureDeferred
async def test_a_page_makes_no_mirror(pages: Pages, tmp_path: Path, page: str) -> None:
    body, content_type, said = PAGES[page]
    pages.page = (body, content_type)
    harness = Harness(tmp_path / "state", managed(pages.url))
    error = await fails(harness, "start")
    assert said in error
    assert not said or "not git: check the URL" in error
    assert not harness.path().exists()
    assert harness.worker().state == "failing"
    assert harness.worker().status.verified_at is None
    await harness.stop()


@pytest.mark.parametrize("page", PAGES)
@pytest_twisted.ensureDeferred
async def test_a_page_deletes_nothing_and_no_push_is_done_by_it(pages: Pages, tmp_path: Path, page: str) -> None:
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    upstream.set("refs/heads/other", upstream.refs()[MAIN])
    made = Harness(tmp_path / "state", managed(upstream))
    await made.worker().sync("start")
    await made.stop()
    body, content_type, said = PAGES[page]
    pages.page = (body, content_type)
    harness = Harness(tmp_path / "state", managed(pages.url))
    harness.told = made.told
    before = refs(harness.path())
    for cause in ("start", "manual", "backstop"):
        error = await fails(harness, cause)
        assert said in error
        assert "deleted" not in error
        assert harness.worker().state == "failing"
    assert harness.worker().status.verified_at is None
    with pytest.raises(StackitError):
        await harness.push(pushed(harness, before[MAIN], "1" * 40))
    with pytest.raises(StackitError):
        await harness.push(pushed(harness, "2" * 40, "1" * 40, ref="refs/heads/new"))
    assert harness.announcements == []
    assert refs(harness.path()) == before
    assert not harness.named("healed")
    await harness.stop()


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
    harness = Harness(tmp_path / "state", managed(pages.url))
    await fails(harness, "start")
    assert not harness.path().exists()
    assert harness.worker().state == "failing"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_an_empty_repository_of_an_honest_server_is_in_step(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    upstream = Upstream(tmp_path / "upstream")
    server = GitHttp(reactor, tmp_path)
    harness = Harness(tmp_path / "state", managed(server.url("upstream")))
    for cause in ("start", "manual", "backstop"):
        await harness.worker().sync(cause)
        assert harness.worker().state == "in_step"
    upstream.advance()
    await harness.worker().sync("manual")
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_dumb_server_is_mirrored_and_what_comes_in_its_place_is_not_believed(tmp_path: Path) -> None:
    from twisted.internet import reactor as the_reactor  # noqa: PLC0415 - importing it installs it

    reactor: Any = the_reactor
    upstream = Upstream(tmp_path / "upstream")
    upstream.advance()
    git(upstream.directory, "update-server-info")
    port = reactor.listenTCP(0, Site(File(str(tmp_path))), interface="127.0.0.1")
    harness = Harness(tmp_path / "state", managed(f"http://127.0.0.1:{port.getHost().port}/upstream"))
    await harness.worker().sync("start")
    assert refs(harness.path()) == upstream.refs()
    assert harness.worker().state == "in_step"
    before, after = upstream.refs()[MAIN], upstream.advance()
    git(upstream.directory, "update-server-info")
    await harness.push(pushed(harness, before, after))
    assert harness.named("visible")
    (upstream.directory / "info" / "refs").write_bytes(b"")
    assert "an empty answer (200, " in await fails(harness, "manual")
    assert refs(harness.path()) == upstream.refs()
    await harness.stop()
    await port.stopListening()
