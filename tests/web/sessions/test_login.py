"""People who log in with a bearer token, what they may do, and who is kept out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from admin_server import CSRF, ECHO, echo
from memory_journal import MemoryJournal
from twisted.internet import reactor
from twisted.internet.task import deferLater

from stackit import AdminRequest, Response, Route
from stackit.api.person import Person
from stackit.config.login import LoginConfig
from stackit.text.own_path import own_path
from stackit.web.admin.site import MOST_UNSENT

TOKEN = "the-token-of-operators"
READ = LoginConfig(anonymous="read")
SYNC = "/api/v1/repos/octo/widget/sync"


# -- who asks -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_without_tokens_and_login_everybody_is_an_operator_who_needs_no_login(people: Any) -> None:
    side = await people()
    answer = await side.ask("GET", "/api/v1/session")
    assert answer.json == {"by": "127.0.0.1", "role": "operator", "logged_in": False}
    assert (await side.ask("POST", SYNC, CSRF)).status == 200
    assert b"Nobody needs to log in" in (await side.ask("GET", "/login")).body


@pytest_twisted.ensureDeferred
async def test_a_browser_that_nobody_knows_is_led_to_the_login_and_back(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    answer = await side.ask("GET", "/metrics?a=1&b=%2F", "Accept: text/html,*/*")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/metrics%3Fa%3D1%26b%3D%252F")
    page = await side.ask("GET", answer.headers["location"])
    assert b'value="/metrics?a=1&amp;b=%2F"' in page.body
    back = await side.post("/login", f"token={TOKEN}&next=/metrics%3Fa%3D1%26b%3D%252F")
    assert (back.status, back.headers["location"]) == (303, "/metrics?a=1&b=%2F")
    # A path that is not there is no exception, or it could be told from one that is.
    assert (await side.ask("GET", "/no/such", "Accept: text/html")).status == 303
    for accept in ("Accept: */*", "Accept: application/json"):
        assert (await side.ask("GET", "/metrics", accept)).status == 401
    assert (await side.ask("POST", SYNC, CSRF, "Accept: text/html")).status == 401


@pytest_twisted.ensureDeferred
async def test_a_pasted_token_makes_an_operator_whose_cookie_scripts_do_not_see(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    answer = await side.log_in()
    cookie, _, attributes = answer.headers["set-cookie"].partition("; ")
    assert cookie.startswith(f"stackit-{side.server.port}=stks_")
    assert attributes == "Path=/; HttpOnly; SameSite=Lax; Max-Age=86400"
    asked = await side.ask("GET", "/api/v1/session", f"Cookie: other=1; {cookie}")
    assert asked.json == {"by": "token", "role": "operator", "logged_in": True}
    assert (await side.ask("POST", SYNC, CSRF, f"Cookie: {cookie}")).json["by"] == "token"
    assert TOKEN not in repr(side.seen)


@pytest_twisted.ensureDeferred
async def test_a_login_over_https_gets_a_cookie_for_this_host_alone(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file, url="https://admin.example.org", hosts=["admin.example.org"])
    answer = await side.post("/login", f"token={TOKEN}", origin="https://admin.example.org")
    cookie, _, attributes = answer.headers["set-cookie"].partition("; ")
    assert cookie.startswith("__Host-stackit=stks_")
    assert attributes == "Path=/; HttpOnly; SameSite=Lax; Max-Age=86400; Secure"
    assert (await side.ask("GET", "/metrics", f"Cookie: {cookie}")).status == 200


@pytest.mark.parametrize("url", ["https://admin.example.org", "http://admin.example.org"])
@pytest_twisted.ensureDeferred
async def test_nobody_logs_in_over_plain_http_but_on_this_machine(people: Any, token_file: Path, url: str) -> None:
    side = await people(token_file=token_file, url=url, hosts=["admin.example.org"])
    for host in ("admin.example.org", *(["localhost"] if url.startswith("https") else [])):
        origin = f"Origin: http://{host}"
        form = "Content-Type: application/x-www-form-urlencoded"
        answer = await side.server.ask("POST", "/login", origin, form, host=host, body=f"token={TOKEN}".encode())
        assert answer.status == 403
        assert "set-cookie" not in answer.headers
        assert "https://" in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_anonymous_people_may_look_and_no_more(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file, login=READ)
    assert (await side.ask("GET", "/api/v1/session")).json["role"] == "viewer"
    assert (await side.ask("GET", "/metrics")).status == 200
    assert (await side.ask("GET", "/api/v1/audit")).status == 403
    assert (await side.ask("POST", SYNC, CSRF)).status == 403
    # One who has a token, and a wrong one, has to know.
    assert (await side.ask("GET", "/metrics", "Authorization: Bearer wrong")).status == 401
    assert (await side.ask("POST", SYNC, CSRF, f"Authorization: Bearer {TOKEN}")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_viewer_may_look_and_no_more_until_the_role_changes(people: Any) -> None:
    side = await people(login=LoginConfig(app="main", viewers=("octo",), client_id="Iv1"))
    viewer = Person(id="github:5", name="hubot (id 5)", role="viewer")
    cookie = f"Cookie: stackit-{side.server.port}={side.sessions.create(viewer)}"
    assert (await side.ask("GET", "/metrics", cookie)).json["by"] == "hubot (id 5)"
    assert (await side.ask("POST", SYNC, CSRF, cookie)).status == 403
    side.sessions.update(Person(id="github:5", name="hubot (id 5)", role="operator"))
    assert (await side.ask("POST", SYNC, CSRF, cookie)).status == 200
    assert side.sessions.end_user("github:5") == 1
    assert (await side.ask("GET", "/metrics", cookie)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_route_may_be_for_operators_though_it_changes_nothing_and_for_viewers_though_it_does(
    people: Any, token_file: Path
) -> None:
    routes = [*ECHO, Route("GET", "/secret", echo, role="operator"), Route("POST", "/wave", echo, role="viewer")]
    side = await people(token_file=token_file, login=READ, routes=routes)
    assert (await side.ask("GET", "/secret")).status == 403
    assert (await side.ask("HEAD", "/secret")).status == 403
    assert (await side.ask("POST", "/wave", CSRF)).status == 200


@pytest_twisted.ensureDeferred
async def test_the_token_of_a_shell_is_a_bearer_token_and_no_cookie_and_the_other_way_round(people: Any) -> None:
    side = await people(login=LoginConfig(app="main", viewers=("octo",), client_id="Iv1"))
    person = Person(id="github:5", name="hubot (id 5)", role="operator")
    shell, browser = side.sessions.create(person, kind="shell"), side.sessions.create(person)
    port = side.server.port
    assert (await side.ask("POST", SYNC, CSRF, f"Authorization: Bearer {shell}")).status == 200
    assert (await side.ask("GET", "/metrics", f"Authorization: Bearer {browser}")).status == 401
    assert (await side.ask("GET", "/metrics", f"Cookie: stackit-{port}={shell}")).status == 401
    assert (await side.ask("GET", "/metrics", f"Cookie: stackit-{port}={browser}")).status == 200


# -- what other sites have a browser send ---------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "http://evil.example",
        "https://localhost",
        "http://localhost",
        "http://localhost:1",
        "http://localhost.evil.example",
        "http://evil.example@localhost",
        "http://localhost/",
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_other_site_logs_a_browser_in_or_out_or_sends_a_form(
    people: Any, token_file: Path, origin: str | None
) -> None:
    form = Route("POST", "/deed", echo, form=True)
    side = await people(token_file=token_file, routes=[*ECHO, form])
    cookie = await side.cookie()
    csrf = await csrf_of(side, cookie)
    assert (await side.post("/login", f"token={TOKEN}", origin=origin)).status == 403
    assert (await side.post("/deed", f"csrf={csrf}", cookie, origin=origin)).status == 403
    assert (await side.post("/logout", f"csrf={csrf}", cookie, origin=origin)).status == 403
    assert (await side.ask("GET", "/metrics", cookie)).status == 200


async def csrf_of(side: Any, cookie: str) -> str:
    from stackit.web.sessions.session import csrf_of as made  # noqa: PLC0415 - as a page writes it

    return made(cookie.partition("=")[2])


@pytest_twisted.ensureDeferred
async def test_a_form_needs_the_value_of_its_own_session(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file, routes=[Route("POST", "/deed", form_echo, form=True), *ECHO])
    first, second = await side.cookie(), await side.cookie()
    good = await side.post("/deed", f"a=%C3%A4&csrf={await csrf_of(side, first)}", first)
    assert (good.status, good.json["a"]) == (200, "ä")
    for body in (
        "",
        "csrf=",
        f"csrf={await csrf_of(side, second)}",
        f"csrf={first.partition('=')[2]}",
        "csrf=%ED%B2%80",
    ):
        assert (await side.post("/deed", body, first)).status in (400, 403), body
    assert (await side.post("/deed", "a=1", first, CSRF, origin=None)).status == 200  # as a script sends it
    # The API takes no form.
    assert (await side.post(SYNC, f"csrf={await csrf_of(side, first)}", first)).status == 403
    text = f"csrf={await csrf_of(side, first)}".encode()
    plain = await side.ask("POST", "/deed", first, "Content-Type: text/plain", f"Origin: {side.origin}", body=text)
    assert plain.status == 403


def form_echo(request: AdminRequest) -> Response:
    return Response(body=dict(request.form))


@pytest_twisted.ensureDeferred
async def test_without_a_session_the_origin_of_a_form_is_enough(people: Any) -> None:
    side = await people(routes=[Route("POST", "/deed", form_echo, form=True)])
    assert (await side.post("/deed", "a=1")).json == {"a": "1"}
    assert (await side.post("/deed", "a=1", origin="http://evil.example")).status == 403


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_sends_another_host_does_not_stand_in_the_way(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file, url="https://admin.example.org", hosts=["admin.example.org"])
    assert (await side.post("/login", f"token={TOKEN}", origin="https://admin.example.org")).status == 303
    assert (await side.post("/login", f"token={TOKEN}", origin="https://admin.example.org:8443")).status == 403


# -- the cookie -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_cookie_that_another_host_planted_counts_for_nothing(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file, url="https://admin.example.org", hosts=["admin.example.org"])
    good = side.sessions.create(Person(id="x", name="x", role="operator"), proof=proof)
    port = side.server.port
    # A sibling can set a cookie for all hosts of its domain, but none that is called __Host-.
    for planted in (f"stackit-{port}={good}", f"stackit={good}", f"__host-stackit={good}", f"stackit-80={good}"):
        assert (await side.ask("GET", "/metrics", f"Cookie: {planted}")).status == 401, planted
    assert (await side.ask("GET", "/metrics", f"Cookie: __Host-stackit={good}")).status == 200
    two = f"Cookie: __Host-stackit={good}; __Host-stackit={good}x"
    assert (await side.ask("GET", "/metrics", two)).status == 401


def proof(token: str) -> str:
    from stackit.web.sessions.session import proof_of  # noqa: PLC0415 - as the entrance makes it

    return proof_of(token, TOKEN)


@pytest_twisted.ensureDeferred
async def test_a_login_makes_a_new_session_and_ends_the_one_that_was_there(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    before = await side.cookie()
    answer = await side.post("/login", f"token={TOKEN}", before)
    after = f"Cookie: {answer.headers['set-cookie'].partition(';')[0]}"
    assert after != before
    assert (await side.ask("GET", "/metrics", before)).status == 401
    assert (await side.ask("GET", "/metrics", after)).status == 200
    # A value that somebody else chose becomes no session.
    chosen = f"Cookie: stackit-{side.server.port}=stks_chosen"
    answer = await side.post("/login", f"token={TOKEN}", chosen)
    assert "stks_chosen" not in answer.headers["set-cookie"]
    assert (await side.ask("GET", "/metrics", chosen)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_logout_ends_the_session_and_takes_the_cookie(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    cookie = await side.cookie()
    answer = await side.post("/logout", f"csrf={await csrf_of(side, cookie)}", cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert (await side.ask("GET", "/metrics", cookie)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_session_ends_with_the_token_by_which_it_was_made(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    cookie = await side.cookie()
    replace(token_file, "another-token")
    assert (await side.ask("GET", "/metrics", cookie)).status == 401
    replace(token_file, TOKEN)
    assert (await side.ask("GET", "/metrics", cookie)).status == 401
    cookie = await side.cookie()
    replace(token_file, "")
    assert (await side.ask("GET", "/metrics", cookie)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_session_of_the_apps_login_ends_with_the_setting(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    token = side.sessions.create(Person(id="github:5", name="hubot (id 5)", role="operator"))
    assert (await side.ask("GET", "/metrics", f"Cookie: stackit-{side.server.port}={token}")).status == 401


@pytest_twisted.ensureDeferred
async def test_neither_the_page_nor_the_journal_has_a_token_that_opens(
    people: Any, token_file: Path, journal: MemoryJournal
) -> None:
    side = await people(token_file=token_file, journal=journal)
    cookie = await side.cookie()
    await side.sessions.stop()
    await side.audit.stop()
    kept = repr([await journal.documents(each) for each in ("sessions", "audit")])
    assert "stks_" not in kept
    assert TOKEN not in kept
    again = await people(token_file=token_file, journal=journal)
    name, _, value = cookie.removeprefix("Cookie: ").partition("=")
    assert name
    assert (await again.ask("GET", "/metrics", f"Cookie: stackit-{again.server.port}={value}")).status == 200
    assert (await again.ask("GET", f"/login?token={TOKEN}")).status == 400


def replace(file: Path, text: str) -> None:
    file.write_text(text)


# -- where one goes on to ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/a\r\nSet-Cookie: x=1",
        "/a#//b",
        "/" + "a" * 3000,
        "/ä",
        " /a",
    ],
)
def test_one_goes_on_to_paths_of_this_site_only(text: str) -> None:
    assert own_path(text) == "/"


@pytest.mark.parametrize(
    "text", ["/", "/deliveries/17", "/deliveries?repo=octo%2Fwidget&state=dead", "/a//b", "/%2F/evil"]
)
def test_a_path_of_this_site_stays_as_it_is(text: str) -> None:
    assert own_path(text) == text


@pytest_twisted.ensureDeferred
async def test_the_page_shows_what_it_was_asked_as_text_and_leads_nowhere_else(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    for following in ("//evil.example", '/"><script>', "/%22%3E%3Cscript%3E"):
        quoted = following.replace("%", "%25").replace('"', "%22").replace("<", "%3C").replace(">", "%3E")
        page = await side.ask("GET", f"/login?next={quoted}")
        assert b"<script" not in page.body
        assert b"evil" not in page.body
        assert (await side.post("/login", f"token={TOKEN}&next=//evil.example")).headers["location"] == "/"
    # A browser tells the origin of a form only where it may tell the page that it is on.
    assert page.headers["referrer-policy"] == "same-origin"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


# -- too often --------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_who_tries_many_tokens_has_to_wait_and_everybody_else_comes_in(people: Any, token_file: Path) -> None:
    side = await people(token_file=token_file)
    answers = [await side.log_in("wrong") for _ in range(12)]
    assert [each.status for each in answers] == [403] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await side.log_in()).status == 429  # or the answer would tell a right token from a wrong one
    assert (await side.ask("GET", "/metrics", f"Authorization: Bearer {TOKEN}")).status == 200
    side.clock.advance(7)
    assert (await side.log_in()).status == 303


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_refused_too_often_has_to_wait_and_a_valid_token_has_not(
    people: Any, token_file: Path
) -> None:
    side = await people(token_file=token_file)
    cookie = await side.cookie()
    statuses = [(await side.ask("GET", "/metrics", "Authorization: Bearer wrong")).status for _ in range(33)]
    assert statuses == [401] * 30 + [429] * 3
    assert (await side.ask("GET", "/metrics", f"Authorization: Bearer {TOKEN}")).status == 200
    assert (await side.ask("GET", "/metrics", cookie)).status == 200
    assert (await side.ask("POST", SYNC, cookie)).status == 403  # known, so it is told what is wrong
    assert (await side.ask("GET", "/login")).status == 200
    assert (await side.server.ask("GET", "/metrics", host="evil.example")).status == 429


@pytest_twisted.ensureDeferred
async def test_viewers_who_do_not_read_large_answers_take_bounded_memory(people: Any, token_file: Path) -> None:
    async def until(ready: Callable[[], bool]) -> None:
        for _ in range(3000):
            if ready():
                return
            await deferLater(reactor, 0.01)
        raise AssertionError("nothing came of it")

    size = MOST_UNSENT // 7
    large = Route("GET", "/large", lambda _: Response(body=b"x" * size))
    side = await people(token_file=token_file, login=READ, routes=[large, *ECHO])
    lazy = [await side.server.connect() for _ in range(9)]
    for each in lazy:
        each.transport.pauseProducing()
        each.transport.write(f"GET /large HTTP/1.1\r\nHost: localhost:{side.server.port}\r\n\r\n".encode())
    await until(lambda: side.site.unsent > 6 * size)
    assert (await side.ask("GET", "/large")).status == 503
    assert (await side.ask("GET", "/api/v1/session")).status == 200
    assert side.site.unsent < MOST_UNSENT + 2**20
    assert len((await side.ask("GET", "/large", f"Authorization: Bearer {TOKEN}")).body) == size
    for each in lazy:
        each.transport.abortConnection()
    await until(lambda: side.site.unsent == 0)
    assert (await side.ask("GET", "/large")).status == 200
