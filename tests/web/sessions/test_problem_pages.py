"""What a browser is told in place of a page: a page with the reason, where a program gets JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from admin_server import ECHO
from markupsafe import Markup
from twisted.internet import reactor

from stackit import Page
from stackit.config.login import LoginConfig
from stackit.web.pages.site import Pages

BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"


def wave(_: Any) -> str:
    return "Waved."


async def start(people: Any, token_file: Path, *, anonymous: Any = "read", **more: Any) -> Any:
    """Return an admin side with a page, and one action."""
    pages = Pages(
        [Page("/names", "Names", lambda _: Markup("<p>names</p>"), nav="Names", actions={"wave": wave})],
        reactor=reactor,
        now=lambda: 1_000_000.0,
        prefix="/api/v1",
        call=lambda *given, **named: side.site.call(*given, **named),  # noqa: PLW0108 - it is made later
    )
    routes = [*ECHO, *pages.routes()]
    login = LoginConfig(anonymous=anonymous)
    side = await people(token_file=token_file, login=login, routes=routes, problem_page=pages.problem, **more)
    return side


def shows(answer: Any, status: int, said: str) -> bool:
    """Return whether an answer is a whole page with this status and text."""
    assert answer.headers["content-type"].startswith("text/html"), answer
    assert "default-src 'none'; style-src 'self'" in answer.headers["content-security-policy"]
    page = answer.body.decode()
    return answer.status == status and page.startswith("<!doctype html>") and said in page


@pytest_twisted.ensureDeferred
async def test_a_path_that_is_not_there_is_a_page_with_the_menu(people: Any, token_file: Path) -> None:
    side = await start(people, token_file)
    found = await side.ask("GET", "/<script>nothing", BROWSER)
    assert shows(found, 404, "There is nothing at this address.")
    assert b'<a href="/names"' in found.body
    assert b"<script>nothing" not in found.body
    cookie = await side.cookie()
    assert b"Log out" in (await side.ask("GET", "/nothing", BROWSER, cookie)).body


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("path", "headers"), [("/nothing", ()), ("/nothing", ("Accept: */*",)), ("/api/v1/nothing", (BROWSER,))]
)
async def test_a_program_and_the_api_have_json(
    people: Any, token_file: Path, path: str, headers: tuple[str, ...]
) -> None:
    side = await start(people, token_file)
    answer = await side.ask("GET", path, *headers)
    assert (answer.status, answer.json) == (404, {"error": "not found"})


@pytest_twisted.ensureDeferred
async def test_a_form_that_is_refused_is_a_page_with_the_reason(people: Any, token_file: Path) -> None:
    side = await start(people, token_file)
    assert shows(await side.post("/names/wave", "", BROWSER), 403, "this takes an operator, and you may only look")
    cookie = await side.cookie()
    of_another = await side.post("/names/wave", "csrf=x", BROWSER, cookie)
    assert shows(of_another, 403, "this form is of another login: load its page again")
    foreign = await side.post("/names/wave", "", BROWSER, cookie, origin="https://evil.example")
    assert shows(foreign, 403, "this takes a form of its own page")
    assert shows(await side.post("/names", "", BROWSER, "X-Stackit-CSRF: 1", cookie), 405, "this path answers GET")
    by_a_script = await side.post("/names/wave", "csrf=x", cookie)
    assert "this form is of another login" in by_a_script.json["error"]


@pytest_twisted.ensureDeferred
async def test_a_form_while_stackit_is_read_only_is_a_page_that_says_so(people: Any, token_file: Path) -> None:
    side = await start(people, token_file, read_only=True)
    answer = await side.post("/names/wave", "", BROWSER, await side.cookie())
    assert shows(answer, 405, "stackit is read-only: nothing can be changed")
    assert answer.headers["allow"].strip() == ""


@pytest_twisted.ensureDeferred
async def test_a_stranger_sees_no_menu_and_is_told_to_log_in(people: Any, token_file: Path) -> None:
    side = await start(people, token_file, anonymous="none")
    answer = await side.post("/names/wave", "", BROWSER)
    assert shows(answer, 401, '<a href="/login">Log in</a>')
    assert b"/names" not in answer.body
    elsewhere = await side.server.ask("GET", "/", BROWSER, await side.cookie(), host="rebound.example")
    assert shows(elsewhere, 421, "admin.hosts")
    assert b"/names" not in elsewhere.body
