"""The deliveries of a hook by GitHub's API, as the pretend GitHub has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from stackit.api.errors import StackitError
from stackit.github.api import ApiClients, ApiError, AppKey, JwtCredential
from stackit.github.forge import GitHub
from stackit.github.payloads import decode
from stackit.github.recovery.api_source import DAY, ApiSource, default_retention
from stackit.github.recovery.records import Listed
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp


class Listing:
    """An App of the pretend GitHub, with deliveries that nobody took, and its list."""

    def __init__(self, github: PretendGitHub, directory: Path) -> None:
        self.github = github
        self.app: PretendApp = github.apps.create()
        self.hook = github.hooks.of_app(self.app)
        self.hook.config.url = "http://127.0.0.1:9/api/v1/webhooks/github"
        key = directory / "app.pem"
        key.write_text(self.app.private_key)
        key.chmod(0o600)
        self.clients = ApiClients(reactor, github.clock.now, notice=lambda _: None)
        clock = self.clients.clock(github.api_url)
        credential = JwtCredential("main", str(self.app.id), AppKey(reactor, key), clock)
        client = self.clients.client(github.api_url, credential)
        self.source = ApiSource(
            "app:main",
            client,
            signer="app:main",
            route="/app/hook/deliveries",
            refused=lambda problem: StackitError(f"put a valid key there ({problem})"),
        )

    async def entries(self) -> list[Listed]:
        return [entry async for page in self.source.pages() for entry in page]


@pytest_twisted.async_yield_fixture
async def listing(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Listing]:
    await pretend_github.create("octo/widget")
    found = Listing(pretend_github, tmp_path)
    await found.app.install("octo")
    yield found
    await found.clients.close()


@pytest_twisted.ensureDeferred
async def test_a_key_that_github_refuses_is_told_as_the_app_tells_it(listing: Listing) -> None:
    await listing.app.delete_keys()
    with pytest.raises(ApiError, match=r"put a valid key there \(.*status 401") as raised:
        await listing.entries()
    assert (raised.value.reason, raised.value.status) == ("unauthorized", 401)


@pytest_twisted.ensureDeferred
async def test_every_page_is_listed_newest_first(listing: Listing) -> None:
    listing.hook.spoil("lost", 250)
    sent = [await listing.github.push("octo/widget") for _ in range(2)]
    payload = {"action": "created", "repository": listing.github.repository("octo/widget")}
    sent += [await listing.github.hooks.send(listing.hook, "star", payload) for _ in range(210)]
    entries = await listing.entries()
    assert [each.guid for each in entries[:210]] == [each.guid for each in reversed(sent[2:])]
    assert {each.guid for each in sent} <= {each.guid for each in entries}
    assert (entries[0].event, entries[0].action, entries[0].status_code) == ("star", "created", 0)
    assert not entries[0].succeeded
    assert abs(entries[0].at - listing.source.now()) < 60
    assert listing.github.api.refusals == []


@pytest_twisted.ensureDeferred
async def test_a_payload_is_that_of_the_event_and_its_headers_tell_the_hook(listing: Listing) -> None:
    listing.hook.spoil("lost")
    sent = await listing.github.push("octo/widget")
    (entry,) = [each for each in await listing.entries() if each.guid == sent.guid]
    detail = await listing.source.detail(entry.id)
    assert GitHub().hook(detail.headers) == str(listing.hook.id)
    assert GitHub().delivery(detail.headers) == sent.guid
    event = decode("push", detail.payload, id="", delivery=sent.guid, hook="", received_at=0)
    assert event is not None
    assert event.payload["after"] == sent.moved.after  # type: ignore[union-attr]
    assert b"\n" not in detail.payload


@pytest_twisted.ensureDeferred
async def test_what_github_does_not_know_any_more_is_not_found(listing: Listing) -> None:
    listing.hook.spoil("lost")
    await listing.github.push("octo/widget")
    entry, *_ = await listing.entries()
    listing.github.clock.advance(4 * DAY)
    assert await listing.entries() == []
    with pytest.raises(ApiError) as caught:
        await listing.source.detail(entry.id)
    assert caught.value.reason == "not_found"


@pytest.mark.parametrize(
    ("url", "days"),
    [
        ("https://api.github.com", 3),
        ("https://api.octo.ghe.com", 3),
        ("https://git.example.org/api/v3", 7),
        ("https://git.example.org/api/v3/", 7),
    ],
)
def test_the_documented_retention(url: str, days: int) -> None:
    assert default_retention(url) == days * DAY
