"""The states of installations: told once, tried rarely, over at once, and of one App alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import pytest_twisted

from stackit.api.errors import StackitError
from stackit.api.events import Event
from stackit.github.apps import AccessError
from stackit.github.apps.events import InstallationEvents
from stackit.github.apps.sources import AppTokenSource
from stackit.testing.github_api.api_faults import ApiFaultKind
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.tokens import HOUR

from .conftest import Harness


async def ready(harness: Harness, source: AppTokenSource) -> str:
    """Have a token, and return it. Raises as ``ready`` does."""
    await harness.done(source.ready())
    return source.current()


async def refused(harness: Harness, source: AppTokenSource) -> AccessError:
    """The error of a source without tokens."""
    with pytest.raises(AccessError) as raised:
        await ready(harness, source)
    return raised.value


async def made(harness: Harness, name: str = "main") -> tuple[PretendApp, AppTokenSource]:
    app = harness.github.apps.create(name)
    await app.install("octo")
    harness.apps.change([*(each.config for each in harness.apps), harness.config(app, name)])
    return app, harness.apps.source(name, "octo", "widget")


@pytest_twisted.ensureDeferred
async def test_a_suspended_installation_is_told_once_and_hardly_ever_asked_for_a_token(harness: Harness) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    await harness.time.pass_time(60)
    await app.installations[0].suspend()
    # git is refused with a token that works otherwise: the installation is looked at, and has no token any more.
    with pytest.raises(AccessError, match="suspended: unsuspend it in the settings of octo") as raised:
        await harness.done(source.rejected(token, 403))
    assert raised.value.state == "suspended"
    assert source.problem == "suspended"
    for _ in range(60):
        await harness.time.pass_time(60)
        assert (await refused(harness, source)).state == "suspended"
    assert harness.minted(app) == 1
    asked = harness.github.api.count("/app/installations/{installation_id}/access_tokens", status=403)
    assert asked <= 1
    assert [each for each in harness.notices if "suspended" in each] == [str(raised.value)]
    assert harness.apps.problems() == [str(raised.value)]
    assert harness.recovered == []

    await app.installations[0].unsuspend()
    await harness.until(lambda: bool(harness.recovered), 301)  # no event came
    assert source.problem is None
    assert await ready(harness, source) != token
    assert harness.apps.problems() == []
    assert len(harness.notices) == 2


async def told(harness: Harness, number: object, signer: str) -> None:
    """Hand an event of an installation to stackit, as if GitHub had sent it."""
    body = json.dumps({"action": "unsuspend", "installation": {"id": number}}).encode()
    event = Event(name="installation", id="1", delivery="d", received_at=0.0, body=body, signer=signer)
    await harness.done(InstallationEvents(harness.apps).installation(event))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("signer", ["app:main", ""])
async def test_an_event_ends_a_suspension_at_once(harness: Harness, signer: str) -> None:
    app, source = await made(harness)
    installation = app.installations[0]
    await installation.suspend()
    assert (await refused(harness, source)).state == "suspended"
    await installation.unsuspend()
    for number, other in ((installation.id, "app:other"), (installation.id, "owner:octo")):
        calls = len(harness.github.api.calls)
        await told(harness, number, other)
        assert len(harness.github.api.calls) == calls  # they do not speak for this App
    await told(harness, installation.id, signer)
    assert source.problem is None
    assert harness.recovered == ["main"]
    assert await ready(harness, source)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("number", [999, None, "x", [1]])
async def test_an_event_proves_nothing_by_itself(harness: Harness, number: object) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    await told(harness, number, "app:main")
    assert source.problem is None
    assert source.current() == token
    assert [each.id for each in harness.apps.named("main")] == [app.installations[0].id]


@pytest_twisted.ensureDeferred
async def test_an_app_that_is_uninstalled_and_installed_again(harness: Harness) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    await harness.time.pass_time(60)
    await app.installations[0].uninstall()
    with pytest.raises(AccessError, match="its installation for octo is gone: install the App for octo again"):
        await harness.done(source.rejected(token, 401))
    assert source.problem == "no_access"
    await app.install("octo")
    await harness.until(lambda: bool(harness.recovered), 301)
    assert source.problem is None
    assert await ready(harness, source) != token
    assert [each.state for each in harness.apps.named("main")] == ["active"]


@pytest_twisted.ensureDeferred
async def test_an_owner_without_an_installation_is_asked_about_once_a_minute(harness: Harness) -> None:
    app, _ = await made(harness)
    sources = [harness.apps.source("main", "acme", f"r{number}") for number in range(20)]
    for _ in range(20):
        for each in sources:
            assert (await refused(harness, each)).state == "uninstalled"
        await harness.time.pass_time(6)
    assert harness.github.api.count("/app/installations") <= 4
    assert sources[0].problem == "no_access"
    await app.install("acme")
    assert await ready(harness, harness.apps.source("main", "octo", "widget"))
    await harness.time.pass_time(60)
    assert await ready(harness, sources[0])
    assert sources[0].problem is None


@pytest_twisted.ensureDeferred
async def test_a_permission_that_is_withdrawn_and_granted(harness: Harness) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    await harness.time.pass_time(60)
    await app.installations[0].withdraw("contents")
    with pytest.raises(AccessError, match="does not grant to read contents and metadata") as raised:
        await harness.done(source.rejected(token, 403))
    assert raised.value.state == "no_permission"
    assert source.problem == "no_access"
    await app.installations[0].grant(contents="read")
    await harness.until(lambda: bool(harness.recovered), 301)
    assert await ready(harness, source)
    assert len(harness.notices) == 2


@pytest_twisted.ensureDeferred
async def test_a_key_that_was_deleted_is_told_once_and_tried_less_and_less(harness: Harness, tmp_path: Path) -> None:
    app, source = await made(harness)
    _, others = await made(harness, "other")
    token = await ready(harness, source)
    await app.delete_keys()
    for _ in range(55):
        assert await ready(harness, source) == token  # it is valid still
        assert source.problem is None
        assert await ready(harness, others)
        await harness.time.pass_time(60)
    await harness.time.pass_time(HOUR)
    assert (await refused(harness, source)).state == "unauthorized"
    assert source.problem == "no_access"
    told = [each for each in harness.notices if "App main: GitHub refuses its key" in each]
    assert len(told) == 1
    assert harness.apps.problems() == [str(await refused(harness, source))]
    before = harness.github.api.count(caller="invalid")
    await harness.time.pass_time(2 * HOUR)
    assert 0 < harness.github.api.count(caller="invalid") - before < 30
    assert await ready(harness, others)
    assert others.problem is None
    assert "other" not in harness.recovered

    (tmp_path / "main.pem").write_text(app.add_key())
    await harness.until(lambda: "main" in harness.recovered, 15)  # the file is read again, and tried at once
    assert await ready(harness, source) != token
    assert harness.apps.problems() == []
    assert harness.notices[-1] == "App main: GitHub takes its key again"


@pytest_twisted.ensureDeferred
async def test_a_key_file_that_cannot_be_read_is_told_in_its_words(harness: Harness, tmp_path: Path) -> None:
    app, source = await made(harness)
    pem = (tmp_path / "main.pem").read_text()
    (tmp_path / "main.pem").unlink()
    said = str(await refused(harness, source))
    assert said == f"App main: private key file {tmp_path}/main.pem cannot be read: No such file or directory"
    assert harness.notices == [said]
    (tmp_path / "main.pem").write_text(pem)
    assert await ready(harness, source)
    assert harness.minted(app) == 1


@pytest_twisted.ensureDeferred
async def test_a_renamed_account_keeps_its_installation_under_both_names(harness: Harness) -> None:
    app, source = await made(harness)
    await ready(harness, source)
    await harness.github.admin.rename_owner("octo", "hubot")
    await harness.done(harness.apps.named("main").look_again())
    assert await ready(harness, source) == await ready(harness, harness.apps.source("main", "hubot", "widget"))
    assert harness.minted(app) == 1


@pytest_twisted.ensureDeferred
async def test_github_that_does_not_answer_is_no_state_and_the_old_token_is_used(harness: Harness) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    await harness.time.pass_time(50 * 60)
    assert harness.minted(app) == 2
    token = await ready(harness, source)
    port = harness.github.api_url
    await harness.github.stop()
    await harness.time.pass_time(52 * 60)
    assert await ready(harness, source) == token
    assert source.problem is None
    await harness.time.pass_time(9 * 60)
    with pytest.raises(StackitError) as raised:
        await ready(harness, source)
    assert not isinstance(raised.value, AccessError)
    assert port.partition("//")[2].partition("/")[0] in str(raised.value)
    assert harness.notices == []


@pytest_twisted.ensureDeferred
async def test_a_reload_keeps_the_tokens_of_apps_that_stay(harness: Harness) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    config = harness.config(app)
    other = harness.github.apps.create("other")
    harness.apps.change([config, harness.config(other, "other")])
    assert source.current() == token
    harness.apps.change([harness.config(other, "other")])
    with pytest.raises(StackitError, match=r"no \[\[apps\]\] is called main"):
        source.current()
    harness.apps.change([config])
    assert await ready(harness, source) != token  # nothing was kept of it


@pytest_twisted.ensureDeferred
async def test_a_repository_that_an_installation_does_not_have_delays_no_other(harness: Harness) -> None:
    app = harness.github.apps.create()
    for name in ("widget", "gadget"):
        await harness.github.create(f"octo/{name}", private=True)
    installation = await app.install("octo", ["octo/widget"])
    harness.apps.change([harness.config(app, token_per="repository")])
    sources = {name: harness.apps.source("main", "octo", name) for name in ("widget", "gadget")}
    for _ in range(10):
        with pytest.raises(StackitError) as raised:
            await ready(harness, sources["gadget"])
        assert not isinstance(raised.value, AccessError)
        assert await ready(harness, sources["widget"])
    assert sources["gadget"].problem is None  # of the installation
    assert harness.github.api.count("/app/installations/{installation_id}/access_tokens", status=422) == 1
    await installation.add("octo/gadget")
    await harness.time.pass_time(60)
    assert await ready(harness, sources["gadget"])
    assert harness.notices == []


@pytest_twisted.ensureDeferred
async def test_many_who_look_for_an_installation_do_not_ask_again_and_again(harness: Harness) -> None:
    _, source = await made(harness)
    harness.github.api.faults.begin("/app/installations", "html_503")
    for _ in range(50):
        with pytest.raises(StackitError) as raised:
            await ready(harness, source)
        assert not isinstance(raised.value, AccessError)
    assert harness.github.api.count("/app/installations") <= 8
    harness.github.api.faults.heal()
    await harness.time.pass_time(60)
    assert await ready(harness, source)
    assert harness.notices == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["empty", "shape", "items", "html", "html_503", "blank", "cut", "reset", 404, 500])
async def test_no_list_of_installations_takes_one_away(harness: Harness, kind: ApiFaultKind) -> None:
    app, source = await made(harness)
    token = await ready(harness, source)
    harness.github.api.faults.begin("/app/installations", kind)
    for _ in range(3):
        await harness.done(harness.apps.named("main").look_again())
    assert source.problem is None
    assert await ready(harness, source) == token
    assert [each.standing for each in harness.apps.named("main")] == ["active"]
    assert harness.minted(app) == 1
