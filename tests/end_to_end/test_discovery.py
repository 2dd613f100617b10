"""Repositories found and followed, as an operator sees it: what moves a mirror, and how little removes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import check_log, mirror_refs

from stackit.testing import RunningStackit
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.api_faults import ApiFaultKind
from stackit.testing.github_api.apps import PretendApp

Start = Callable[..., Awaitable[RunningStackit]]

LISTING = "/installation/repositories"
FAULTS: tuple[ApiFaultKind, ...] = (
    *("html", "html_503", "blank", "empty", "shape", "items", "cut", "reset"),
    *(500, 404),
)
NO_MIRRORS = {"plugins": {"mirror": {"enabled": False}}}


def tables(directory: Path, github: PretendGitHub, apps: dict[str, PretendApp], **more: Any) -> dict[str, Any]:
    """The configuration of Apps by their names, and of the discovery of what each has."""
    for name, app in apps.items():
        (directory / f"{name}.pem").write_text(app.private_key)
        (directory / f"{name}-secret").write_text(app.webhook_secret)
    return {
        "sync": {"interval": "1h"},
        "recovery": {"enabled": False},
        "apps": [
            {
                "name": name,
                "app_id": app.id,
                "private_key_file": directory / f"{name}.pem",
                "secret_files": [directory / f"{name}-secret"],
                "api_url": github.api_url,
            }
            for name, app in apps.items()
        ],
        "discover": [{"app": name} for name in apps],
    } | more


def mirrors(stackit: RunningStackit) -> set[str]:
    """The mirrors on disk, by name."""
    found = (stackit.state_dir / "mirrors").glob("*/*.git")
    return {f"{each.parent.name}/{each.stem}" for each in found if (each / "HEAD").exists()}


async def managed(stackit: RunningStackit) -> dict[str, str]:
    """The managed repositories and their states."""
    return {each["name"]: each["state"] for each in (await stackit.admin("GET", "{prefix}/repos")).json()["repos"]}


async def discover(stackit: RunningStackit, query: str = "") -> dict[str, Any]:
    """Have all listings read, and return the only one's report."""
    (report,) = (await stackit.admin("POST", f"{{prefix}}/discover{query}")).json()["listings"]
    return dict(report)


async def in_step(stackit: RunningStackit, *names: str) -> None:
    """Wait until these mirrors, and no others, are there and equal to their remotes."""

    async def are() -> bool:
        return await managed(stackit) == dict.fromkeys(names, "in_step")

    await stackit.until(are, f"the mirrors of {len(names)} repositories", 60)


async def problems(stackit: RunningStackit) -> str:
    return "\n".join((await stackit.admin("GET", "/readyz")).json().get("problems", []))


async def metric(stackit: RunningStackit, name: str) -> float:
    return (await stackit.metrics())[name]


@pytest_twisted.ensureDeferred
async def test_no_bad_listing_takes_a_mirror_away_and_a_mass_disappearance_waits_for_a_person(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app = github.apps.create()
    names = await github.create_many("octo", 20)
    installation = await app.install("octo", names)
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}))
    github.hooks.of_app(app).config.url = stackit.webhook_url
    await in_step(stackit, *names)

    hook = github.hooks.of_app(app)
    hook.active = False  # what is deleted now is told of by no event
    await github.admin.delete(names[0])
    for kind in FAULTS:
        github.api.faults.begin(LISTING, kind)
        report = await discover(stackit)
        assert report["problem"] or report["held"], kind
        assert "octo" in await problems(stackit), kind
        alarms = [f'stackit_discovery_{each}{{source="App main"}}' for each in ("failing", "held")]
        assert sum([await metric(stackit, each) for each in alarms]) == 1, kind
        assert set(await managed(stackit)) == set(names), kind
        assert mirrors(stackit) == set(names), kind
        github.api.faults.heal()

    for name in names[1:13]:
        await github.admin.delete(name)
    report = await discover(stackit)
    assert report["held"].startswith("13 of 20 repositories are gone")
    assert sum(each["change"] == "held" for each in report["repos"]) == 13
    assert set(await managed(stackit)) == set(names)
    assert "stackit discover --accept-removals" in await problems(stackit)
    assert (await discover(stackit, "?accept=removals"))["held"] is None
    assert set(await managed(stackit)) == set(names[13:])
    assert mirrors(stackit) == set(names)
    assert await problems(stackit) == ""

    hook.active = True
    fetched = github.fetches(names[19])
    await installation.remove(names[19])
    await in_step(stackit, *names[13:19])
    assert mirrors(stackit) == set(names)
    await installation.add(names[19])
    await in_step(stackit, *names[13:])
    assert github.fetches(names[19]) == fetched  # its objects are still there
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_events_move_what_their_app_has_and_nothing_of_another(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    apps = {"main": github.apps.create("main"), "other": github.apps.create("other", owner="acme")}
    await github.create("octo/widget", private=True)
    await github.commit("octo/widget")
    await github.create("acme/site", private=True)
    await github.commit("acme/site")
    await apps["main"].install("octo")
    await apps["other"].install("acme")
    stackit = await running_stackit(config=tables(tmp_path, github, apps))
    for app in apps.values():
        github.hooks.of_app(app).config.url = stackit.webhook_url
    await in_step(stackit, "octo/widget", "acme/site")

    # The secret of one App, and what it says of the other's repository.
    secret = apps["other"].webhook_secret
    repository = github.repository("octo/widget")
    listed = github.api.count(LISTING)
    for action in ("deleted", "renamed", "transferred"):
        told = {
            "action": action,
            "repository": {**repository, "full_name": "octo/stolen", "name": "stolen"}
            | ({} if action != "deleted" else repository),
            "changes": {"repository": {"name": {"from": "widget"}}, "owner": {"from": {"user": repository["owner"]}}},
            "sender": repository["owner"],
        }
        assert (await stackit.deliver("repository", told, secret=secret)).status == 401
    removed = {
        "action": "removed",
        "installation": {"id": apps["main"].installations[0].id},
        "repository_selection": "selected",
        "repositories_added": [],
        "repositories_removed": [
            {"id": repository["id"], "full_name": "octo/widget", "name": "widget", "private": True}
        ],
        "sender": repository["owner"],
    }
    assert (await stackit.deliver("installation_repositories", removed, secret=secret)).status == 202
    own = {
        "action": "edited",
        "changes": {},
        "repository": github.repository("acme/site"),
        "sender": repository["owner"],
    }
    assert (await stackit.deliver("repository", own, secret=secret)).status == 202

    async def looked() -> bool:
        return github.api.count(LISTING) > listed

    await stackit.until(looked, "a look")
    assert set(await managed(stackit)) == {"octo/widget", "acme/site"}
    assert github.api.count(LISTING, caller=f"installation:{apps['main'].installations[0].id}") == 1

    # The App's own events: a new repository is cloned at once, and a rename moves a mirror without a fetch.
    await github.create("octo/gadget", private=True)
    await github.commit("octo/gadget")
    await in_step(stackit, "octo/widget", "octo/gadget", "acme/site")
    fetched = github.fetches("octo/widget")
    await github.admin.rename("octo/widget", "thing")
    await in_step(stackit, "octo/thing", "octo/gadget", "acme/site")
    assert mirrors(stackit) == {"octo/thing", "octo/gadget", "acme/site"}
    assert github.fetches("octo/thing") + github.fetches("octo/widget") == fetched
    assert await metric(stackit, 'stackit_discovery_events_total{use="looked"}') > 0
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_a_dry_run_says_what_a_start_then_does(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app = github.apps.create()
    names = await github.create_many("octo", 8)
    await github.admin.archive(names[0])
    await github.admin.set_topics(names[1], ["mirror"])
    await app.install("octo")
    rules = [
        {"app": "main", "include": ["r0000*"], "archived": False, "topics": ["mirror"]},
        {"app": "main", "exclude": ["*8", "r00007"], "archived": False},
    ]
    github.api.faults.begin(LISTING, 500)
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}, discover=rules))

    async def failed() -> bool:
        return await metric(stackit, 'stackit_discovery_failing{source="App main"}') > 0

    await stackit.until(failed, "a reading that fails")
    github.api.faults.heal()
    dry = await discover(stackit, "?dry_run=1")
    assert await managed(stackit) == {}
    told = {each["name"]: each for each in dry["repos"]}
    assert {name: each["reason"] for name, each in told.items()} == {
        names[0]: "discover[1]: archived = false",
        names[1]: "discover[1]: include 'r0000*'",
        **dict.fromkeys(names[2:6], "discover[2]: include '*'"),
        names[6]: "discover[1]: topics (it has none of them)",
        names[7]: "discover[1]: topics (it has none of them)",
    }
    await stackit.stop()
    await stackit.start()
    await in_step(stackit, *(name for name, each in told.items() if each["mirrored"]))
    after = await discover(stackit, "?dry_run=1")
    assert [each | {"change": ""} for each in after["repos"]] == [each | {"change": ""} for each in dry["repos"]]
    assert {each["change"] for each in after["repos"]} == {"none"}
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_ten_thousand_cost_few_requests_and_a_start_that_knows_them_none(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app = github.apps.create()
    await github.create_many("octo", 10_000)
    await app.install("octo")
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}, **NO_MIRRORS))

    async def found() -> bool:
        return int((await stackit.admin("GET", "{prefix}/status")).json()["repos"]) == 10_000

    await stackit.until(found, "10,000 repositories", 120)
    assert len(github.api.calls) <= 110
    assert sum(github.api.limits.ban_points.values()) == 0
    await stackit.stop()
    github.api.faults.begin("", "hang")
    asked = len(github.api.calls)
    await stackit.start()  # it answers, and its API does not
    assert len(github.api.calls) - asked <= 1
    assert await found()
    check_log(stackit.log)


@pytest_twisted.ensureDeferred
async def test_a_mirror_is_deleted_after_its_grace_where_the_table_says_so_and_never_another_of_its_name(
    pretend_github: PretendGitHub, running_stackit: Start, tmp_path: Path
) -> None:
    github = pretend_github
    app = github.apps.create()
    names = await github.create_many("octo", 3)
    await app.install("octo")
    table = {"app": "main", "on_removed": "delete", "grace": "8s"}
    stackit = await running_stackit(config=tables(tmp_path, github, {"main": app}, discover=[table]))
    await in_step(stackit, *names)
    await github.admin.delete(names[0])
    await github.admin.delete(names[1])
    await github.create(names[1])  # another repository has that name now
    await github.commit(names[1])
    report = await discover(stackit)
    assert sorted(each["change"] for each in report["repos"] if each["name"] in names[:2]) == [
        "added",
        "removed",
        "removed",
    ]
    assert names[0] in mirrors(stackit)

    async def is_deleted() -> bool:
        await discover(stackit)
        return mirrors(stackit) == set(names[1:])

    await stackit.until(is_deleted, "the mirror to be deleted")
    await in_step(stackit, *names[1:])
    assert await mirror_refs(stackit, names[1]) == await github.refs(names[1])
    check_log(stackit.log)
