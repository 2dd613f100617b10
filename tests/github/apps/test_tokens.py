"""Tokens of installations: made once for all, renewed in time, waited for, and made anew when they are refused."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit.api.errors import StackitError
from stackit.github.apps import AccessError, Narrowing
from stackit.testing.github_api.tokens import HOUR

from .conftest import Harness


@pytest_twisted.ensureDeferred
async def test_nothing_is_asked_before_a_token_is_needed(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    assert source.problem is None
    await harness.time.pass_time(600)
    assert not harness.github.api.calls
    with pytest.raises(StackitError, match="not installed for octo"):
        source.current()


@pytest_twisted.ensureDeferred
async def test_many_who_need_a_token_at_once_share_one_that_may_read_and_nothing_else(harness: Harness) -> None:
    app = harness.github.apps.create(permissions={"contents": "write", "metadata": "read", "members": "read"})
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    sources = [harness.apps.source("MAIN", "Octo", f"r{number}") for number in range(50)]
    assert len(set(map(id, sources))) == 1
    waiting = [Deferred.fromCoroutine(each.ready()) for each in sources]
    await harness.until(lambda: all(each.called for each in waiting), 20)
    assert harness.minted(app) == 1
    token = harness.github.tokens.find(sources[0].current())
    assert token is not None
    assert token.permissions == {"contents": "read", "metadata": "read"}
    assert token.repository_ids is None
    assert sources[0].current() not in repr((sources, list(harness.apps)))
    assert harness.redact(f"it says {sources[0].current()}!") == "it says ***!"


@pytest_twisted.ensureDeferred
async def test_a_token_for_each_repository_reaches_no_other(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    for name in ("widget", "gadget"):
        await harness.github.create(f"octo/{name}", private=True)
    harness.apps.change([harness.config(app, token_per="repository")])
    sources = [harness.apps.source("main", "octo", name) for name in ("widget", "Widget", "gadget")]
    assert sources[0] is sources[1] is not sources[2]
    tokens = []
    for each in sources:
        await harness.done(each.ready())
        tokens.append(harness.github.tokens.find(each.current()))
    ids = [harness.github.repositories.of(f"octo/{name}").id for name in ("widget", "widget", "gadget")]
    assert [each.repository_ids for each in tokens if each] == [frozenset([number]) for number in ids]


@pytest_twisted.ensureDeferred
async def test_a_token_in_use_is_renewed_ten_minutes_before_its_end_and_nobody_waits(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    used = set()
    for _ in range(3 * 60):
        await harness.time.pass_time(60)
        ready = Deferred.fromCoroutine(source.ready())
        assert ready.called  # nothing is awaited
        token = harness.github.tokens.find(source.current())
        assert token is not None
        assert token.usable == "yes"
        used.add(token.value)
    assert harness.minted(app) == len(used) == 4


@pytest_twisted.ensureDeferred
async def test_a_token_that_nobody_uses_is_not_renewed(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    source.current()
    await harness.time.pass_time(5 * HOUR)
    assert harness.minted(app) == 2  # the first was used
    await harness.done(source.ready())
    assert harness.minted(app) == 3


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_token_is_by_githubs_clock(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.github.clock.advance(-300)
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    source.current()
    await harness.time.pass_time(49 * 60)
    assert harness.minted(app) == 1
    await harness.time.pass_time(2 * 60)
    assert harness.minted(app) == 2
    assert any("300 seconds ahead of" in each or "299 seconds ahead of" in each for each in harness.notices)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_refusals_of_a_new_token_are_not_believed_for_ten_seconds(harness: Harness, status: int) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    token, began, tries = source.current(), harness.time.seconds(), 0
    while harness.time.seconds() - began < 4:
        assert await harness.done(source.rejected(token, status))
        assert source.current() == token
        tries += 1
    assert tries <= 4
    assert harness.minted(app) == 1


@pytest_twisted.ensureDeferred
async def test_a_token_that_was_revoked_is_made_anew_once(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    old = source.current()
    await harness.time.pass_time(60)
    tries = [Deferred.fromCoroutine(source.rejected(old, 401)) for _ in range(20)]
    await harness.until(lambda: all(each.called for each in tries), 5)
    assert [await each for each in tries] == [True] * 20
    assert source.current() != old
    assert harness.minted(app) == 2
    # The new one is refused as well, and for longer than it takes GitHub to know it: that is about something else.
    await harness.time.pass_time(30)
    assert not await harness.done(source.rejected(source.current(), 401))
    assert harness.minted(app) == 2


@pytest_twisted.ensureDeferred
async def test_a_refusal_of_a_token_that_works_is_about_the_repository(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    await harness.done(source.ready())
    await harness.time.pass_time(60)
    for status in (403, 404, 404, 404):
        assert not await harness.done(source.rejected(source.current(), status))
    assert harness.minted(app) == 1
    looks = [each for each in harness.github.api.calls if each.path.endswith(f"/{app.installations[0].id}")]
    assert len(looks) == 1  # that the installation is all right was asked once


@pytest_twisted.ensureDeferred
async def test_a_client_of_an_installation_waits_until_its_token_is_known_everywhere(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    await harness.github.create("octo/widget", private=True)
    harness.apps.change([harness.config(app)])
    harness.github.tokens.replication_delay = 4
    installation = await harness.done(harness.apps.named("main").installation_for("octo"))
    found = await harness.done(
        installation.client.get("/repos/{owner}/{repo}", dict[str, object], owner="octo", repo="widget")
    )
    assert found["full_name"] == "octo/widget"
    assert harness.minted(app) == 1


@pytest_twisted.ensureDeferred
async def test_a_client_may_have_all_permissions_of_the_app(harness: Harness) -> None:
    app = harness.github.apps.create(permissions={"contents": "read", "metadata": "read", "pull_requests": "write"})
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    installation = await harness.done(harness.apps.named("main").installation_for("octo"))
    token = installation.token(Narrowing(permissions=()))
    await harness.done(token.ready())
    made = harness.github.tokens.find(token.current())
    assert made is not None
    assert made.permissions == app.permissions


@pytest_twisted.ensureDeferred
async def test_an_app_that_the_configuration_lost_is_named(harness: Harness) -> None:
    source = harness.apps.source("main", "octo", "widget")
    with pytest.raises(StackitError, match=r"no \[\[apps\]\] is called main"):
        await harness.done(source.ready())
    assert source.problem == "no_access"


@pytest_twisted.ensureDeferred
async def test_those_who_wait_for_a_token_are_told_of_a_stop(harness: Harness) -> None:
    app = harness.github.apps.create()
    await app.install("octo")
    harness.apps.change([harness.config(app)])
    source = harness.apps.source("main", "octo", "widget")
    waiting = Deferred.fromCoroutine(source.ready())
    await harness.apps.stop()
    with pytest.raises(StackitError, match="stackit stops"):
        await waiting
    assert not isinstance(waiting.result, AccessError)


@pytest_twisted.ensureDeferred
async def test_who_asks_again_at_once_for_a_token_that_could_not_be_made_is_answered(harness: Harness) -> None:
    app = harness.github.apps.create()
    installation = await app.install("octo")
    harness.apps.change([harness.config(app)])
    known = await harness.done(harness.apps.named("main").installation_for("octo"))
    assert known.id == installation.id
    client = known.client_for(Narrowing(permissions=(("members", "read"),)))

    async def ask_twice() -> list[str]:
        found = []
        for _ in range(2):
            with pytest.raises(StackitError) as problem:
                await client.get("/orgs/{org}/members", list, org="octo")
            found.append(str(problem.value))
        return found

    first, second = await harness.done(ask_twice())
    assert first == second
