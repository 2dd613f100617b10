"""The events of changes, as the webhooks of the pretend GitHub send them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from hook_receiver import HookReceiver

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import Installation
from stackit.testing.github_api.hooks import HookConfig


@pytest_twisted.async_yield_fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    found = HookReceiver()
    yield found
    await found.close()


@pytest_twisted.async_yield_fixture
async def octo(github: PretendGitHub, receiver: HookReceiver) -> AsyncIterator[Installation]:
    """An App on all repositories of octo: octo/widget. Its events so far are forgotten."""
    await github.create("octo/widget")
    app = github.apps.create()
    github.hooks.of_app(app).config.url = receiver.url
    made = await app.install("octo")
    [created] = receiver.taken
    assert created.name == "installation.created"
    assert [each["full_name"] for each in created.payload["repositories"]] == ["octo/widget"]
    assert created.payload["installation"]["id"] == made.id
    receiver.taken.clear()
    yield made


@pytest_twisted.ensureDeferred
async def test_the_life_of_an_installation_is_told_to_its_app(octo: Installation, receiver: HookReceiver) -> None:
    await octo.suspend()
    assert receiver.taken[0].payload["installation"]["suspended_at"] is not None
    await octo.unsuspend()
    await octo.grant(contents="write")
    await octo.withdraw("contents")  # of which GitHub tells nobody
    await octo.remove("octo/widget")
    await octo.add("octo/widget")
    removed, added = receiver.taken[-2:]
    assert [each["full_name"] for each in removed.payload["repositories_removed"]] == ["octo/widget"]
    assert (removed.payload["repository_selection"], removed.payload["repositories_added"]) == ("selected", [])
    assert [each["id"] for each in added.payload["repositories_added"]] == [octo.repositories()[0].id]
    await octo.uninstall()
    assert [each["full_name"] for each in receiver.taken[-1].payload["repositories"]] == ["octo/widget"]
    assert receiver.names() == [
        "installation.suspend",
        "installation.unsuspend",
        "installation.new_permissions_accepted",
        "installation_repositories.removed",
        "installation_repositories.added",
        "installation.deleted",
    ]


@pytest_twisted.ensureDeferred
async def test_the_life_of_a_repository_is_told_to_the_apps_that_reach_it(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    await github.create("octo/gadget")
    await github.create("hubot/other")
    await github.admin.rename("octo/gadget", "gizmo")
    renamed = receiver.taken[-1].payload
    assert (renamed["repository"]["full_name"], renamed["changes"]) == (
        "octo/gizmo",
        {"repository": {"name": {"from": "gadget"}}},
    )
    assert renamed["installation"]["id"] == octo.id
    assert renamed["organization"]["login"] == "octo"
    await github.admin.archive("octo/gizmo")
    await github.admin.unarchive("octo/gizmo")
    await github.admin.privatize("octo/gizmo")
    assert receiver.taken[-1].payload["repository"]["private"] is True
    await github.admin.publicize("octo/gizmo")
    await github.admin.set_topics("octo/gizmo", ["mirror"])
    assert receiver.taken[-1].payload["changes"] == {"topics": {"from": []}}
    assert receiver.names() == [
        "repository.created",
        "repository.renamed",
        "repository.archived",
        "repository.unarchived",
        "repository.privatized",
        "repository.publicized",
        "repository.edited",
    ]
    await github.admin.delete("octo/gizmo")
    assert sorted(receiver.names()) == ["installation_repositories.removed", "repository.deleted"]


@pytest_twisted.ensureDeferred
async def test_a_transfer_is_three_events_in_no_order(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    acme = await octo.app.install("acme")
    receiver.taken.clear()
    orders = set()
    for number in range(8):
        repo = f"octo/r{number}"
        await github.create(repo)
        receiver.taken.clear()
        await github.admin.transfer(repo, "acme")
        by_name = {each.name: each.payload for each in receiver.taken}
        assert by_name["repository.transferred"]["changes"]["owner"]["from"]["organization"]["login"] == "octo"
        assert by_name["repository.transferred"]["repository"]["full_name"] == f"acme/r{number}"
        assert by_name["repository.transferred"]["installation"]["id"] == acme.id
        assert by_name["installation_repositories.removed"]["installation"]["id"] == octo.id
        assert by_name["installation_repositories.added"]["installation"]["id"] == acme.id
        orders.add(tuple(receiver.names()))
    assert {len(each) for each in orders} == {3}
    assert len(orders) > 1


@pytest_twisted.ensureDeferred
async def test_a_transfer_out_of_reach_ends_access(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    await github.admin.transfer("octo/widget", "hubot")
    assert sorted(receiver.names()) == ["installation_repositories.removed", "repository.transferred"]
    await github.push("hubot/widget")
    await github.admin.archive("hubot/widget")
    assert receiver.names() == []
    assert octo.repositories() == []


@pytest_twisted.ensureDeferred
async def test_an_owner_that_is_renamed_is_told_to_its_apps_and_its_own_webhooks(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    own = HookConfig(url=receiver.url, content_type="json")
    github.hooks.create("organization", octo.owner.id, own, events=["*"])
    await github.admin.rename_owner("octo", "octo-labs")
    target, organization = receiver.taken
    assert (target.name, organization.name) == ("installation_target.renamed", "organization.renamed")
    assert (target.payload["account"]["login"], target.payload["account"]["id"]) == ("octo-labs", octo.owner.id)
    assert target.payload["changes"] == {"login": {"from": "octo"}}
    assert target.payload["installation"]["id"] == octo.id


@pytest_twisted.ensureDeferred
async def test_a_suspended_installation_hears_of_nothing(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    await octo.suspend()
    receiver.taken.clear()
    await github.create("octo/gadget")
    await github.push("octo/gadget")
    await github.admin.rename("octo/gadget", "gizmo")
    await github.admin.transfer("octo/widget", "hubot")
    await github.admin.rename_owner("octo", "octo-labs")
    await octo.remove("octo-labs/gizmo")
    assert receiver.names() == []
    await octo.unsuspend()
    assert receiver.names() == ["installation.unsuspend"]
    assert list(github.hooks.of_app(octo.app).deliveries)[-1].action == "unsuspend"


@pytest_twisted.ensureDeferred
async def test_an_app_gets_only_what_it_subscribed_to_and_was_granted(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    octo.app.events.remove("repository")
    await github.admin.archive("octo/widget")
    await github.push("octo/widget")
    await octo.withdraw("contents")
    await github.push("octo/widget")
    assert receiver.names() == ["push"]


@pytest_twisted.ensureDeferred
async def test_a_new_repository_may_be_told_of_twice(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    github.lifecycle.added_when_created = True
    github.lifecycle.shuffle = lambda sendings: sendings.reverse()
    await github.create("octo/gadget")
    assert receiver.names() == ["installation_repositories.added", "repository.created"]


@pytest_twisted.ensureDeferred
async def test_other_webhooks_get_what_is_theirs(
    github: PretendGitHub, octo: Installation, receiver: HookReceiver
) -> None:
    def made(kind: str, target: int) -> None:
        config = HookConfig(url=f"{receiver.url}?{kind}", content_type="json")
        github.hooks.create("organization" if kind == "organization" else "repository", target, config, events=["*"])

    widget = github.repositories.of("octo/widget")
    made("organization", octo.owner.id)
    made("repository", widget.id)
    github.webhook(receiver.url, "s3cret")
    await github.create("octo/gadget")
    assert receiver.names() == ["repository.created"] * 2  # not the widget's own, and not that for the pushes of all
    await github.admin.archive("octo/widget")
    assert receiver.names() == ["repository.archived"] * 3
    await octo.suspend()
    assert receiver.names() == ["installation.suspend"]  # which is the App's alone
    await github.push("octo/widget")
    assert receiver.names() == ["push"] * 3
