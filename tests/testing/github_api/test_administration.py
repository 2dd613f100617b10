"""Repositories of the pretend GitHub that are renamed, transferred, deleted, and what is seen of it."""

from __future__ import annotations

import pytest
import pytest_twisted
from api_client import ApiClient
from git_client import ls_remote

from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.changes import Change


@pytest.fixture
def changes(github: PretendGitHub) -> list[Change]:
    """What became of repositories, in order."""
    seen: list[Change] = []

    async def observe(change: Change) -> None:
        seen.append(change)

    github.changes.observe(observe)
    return seen


@pytest_twisted.ensureDeferred
async def test_a_renamed_repository_is_found_by_its_id_and_its_old_name_leads_there(
    github: PretendGitHub, api: ApiClient, changes: list[Change]
) -> None:
    url = await github.create("octo/old", private=True)
    moved = await github.commit("octo/old")
    found = github.repositories.of("octo/old")
    token = await api.token(await github.apps.create().install("octo"))
    await github.admin.rename("octo/old", "new")
    for base in (github.web_url, github.api_url):
        answer = await api.get("/repos/octo/old", token, base=base)
        assert (answer.status, answer.headers["location"]) == (301, f"{base}/repositories/{found.id}")
        assert (await api.get(answer.headers["location"], token)).json()["full_name"] == "octo/new"
    assert (await api.get("/repos/octo/old")).status == 404
    assert changes[-1].kind == "repository.renamed"
    assert changes[-1].changes == {"repository": {"name": {"from": "old"}}}
    followed = await ls_remote(url, token)
    assert moved.after.encode() in followed.stdout
    assert (await ls_remote(url, token, "-c", "http.followRedirects=false")).status == 128


@pytest_twisted.ensureDeferred
async def test_a_name_can_be_of_another_repository_later(github: PretendGitHub, api: ApiClient) -> None:
    await github.create("octo/one")
    first = github.repositories.of("octo/one")
    before = (await github.commit("octo/one")).after
    await github.admin.rename("octo/one", "two")
    url = await github.create("octo/one")
    second = github.repositories.of("octo/one")
    assert first.id != second.id
    assert (await api.get("/repos/octo/one")).json()["id"] == second.id
    assert await github.refs("octo/one") == {}
    assert before in (await github.refs("octo/two")).values()
    await github.admin.delete("octo/one")
    assert (await api.get(f"/repositories/{second.id}")).status == 404
    assert (await ls_remote(url)).status == 128
    await github.create("octo/one")
    assert github.repositories.of("octo/one").id not in (first.id, second.id)


@pytest_twisted.ensureDeferred
async def test_two_repositories_swap_their_names(github: PretendGitHub, api: ApiClient) -> None:
    ids = {}
    for name in ("a", "b"):
        await github.create(f"octo/{name}")
        ids[name] = github.repositories.of(f"octo/{name}").id
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        await github.admin.rename(f"octo/{old}", new)
    assert (await api.get("/repos/octo/a")).json()["id"] == ids["b"]
    assert (await api.get("/repos/octo/b")).json()["id"] == ids["a"]
    with pytest.raises(ValueError, match="octo/b already"):
        await github.admin.rename("octo/a", "b")
    with pytest.raises(LookupError, match="no octo/c"):
        await github.admin.rename("octo/c", "d")


@pytest_twisted.ensureDeferred
async def test_a_transfer_takes_a_repository_out_of_an_installation(
    github: PretendGitHub, api: ApiClient, changes: list[Change]
) -> None:
    await github.create("octo/one", private=True)
    app = github.apps.create()
    octo, hubot = await app.install("octo", ["octo/one"]), await app.install("hubot")
    tokens = [await api.token(octo), await api.token(hubot)]
    await github.admin.transfer("octo/one", "hubot")
    path = f"/repositories/{github.repositories.of('hubot/one').id}"
    assert [(await api.get(path, token)).status for token in tokens] == [404, 200]
    assert changes[-1].reached == (octo,)
    assert changes[-1].changes["owner"]["from"]["organization"]["login"] == "octo"
    await github.admin.transfer("hubot/one", "octo")
    assert [(await api.get(path, token)).status for token in tokens] == [404, 404]


@pytest_twisted.ensureDeferred
async def test_an_owner_takes_its_repositories_to_its_new_login(
    github: PretendGitHub, api: ApiClient, changes: list[Change]
) -> None:
    await github.create("octo/one")
    owner, found = github.owners.get("octo"), github.repositories.of("octo/one")
    installation = await github.apps.create().install("octo")
    await github.admin.rename_owner("octo", "acme")
    assert changes[-1].kind == "installation_target.renamed"
    assert (changes[-1].changes, changes[-1].reached) == ({"login": {"from": "octo"}}, (installation,))
    assert (await api.get("/repos/octo/one")).headers["location"].endswith(f"/repositories/{found.id}")
    assert (await api.get("/repos/acme/one")).json()["owner"]["id"] == owner.id
    assert github.owners.get("octo").id != owner.id


@pytest_twisted.ensureDeferred
async def test_properties_change_as_their_administrator_says(
    github: PretendGitHub, api: ApiClient, changes: list[Change]
) -> None:
    await github.create("octo/one")
    await github.admin.archive("octo/one")
    await github.admin.set_topics("octo/one", ["mirror"])
    seen = (await api.get("/repos/octo/one")).json()
    assert (seen["archived"], seen["topics"], seen["visibility"]) == (True, ["mirror"], "public")
    await github.admin.privatize("octo/one")
    assert (await api.get("/repos/octo/one")).status == 404
    await github.admin.publicize("octo/one")
    await github.admin.unarchive("octo/one")
    assert (await api.get("/repos/octo/one")).json()["archived"] is False
    assert [each.kind.partition(".")[2] for each in changes] == [
        "created",
        "archived",
        "edited",
        "privatized",
        "publicized",
        "unarchived",
    ]


@pytest_twisted.ensureDeferred
async def test_what_is_done_to_an_installation_is_told(github: PretendGitHub, changes: list[Change]) -> None:
    await github.create("octo/one")
    await github.create("octo/two")
    app = github.apps.create()
    installation = await app.install("octo", ["octo/one"])
    await installation.add("octo/two")
    await installation.remove("octo/one")
    await installation.suspend()
    await installation.unsuspend()
    await installation.uninstall()
    await app.delete_keys()
    assert [(each.kind, [one.name for one in each.repositories]) for each in changes[2:]] == [
        ("installation.created", ["one"]),
        ("installation_repositories.added", ["two"]),
        ("installation_repositories.removed", ["one"]),
        ("installation.suspend", []),
        ("installation.unsuspend", []),
        ("installation.deleted", ["two"]),
        ("app.key_deleted", []),
    ]


@pytest_twisted.ensureDeferred
async def test_thousands_of_repositories_cost_nothing_until_git_asks(github: PretendGitHub, api: ApiClient) -> None:
    names = await github.create_many("octo", 10_000)
    token = await api.token(await github.apps.create().install("octo"))
    pages = await api.pages("/installation/repositories?per_page=100", token)
    listed = [each["full_name"] for page in pages for each in page["repositories"]]
    assert (len(pages), listed) == (100, names)
    assert not github.repositories.of(names[7]).directory.exists()
    assert b"refs/heads/main" in (await ls_remote(github.url(names[7]), token)).stdout
    assert github.path(names[7]).exists()
    made = await github.commit(names[8])
    assert (await github.refs(names[8]))["refs/heads/main"] == made.after
    assert made.before != "0" * 40
