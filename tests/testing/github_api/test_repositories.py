"""Lists of the pretend GitHub's repositories, its people, and comments."""

from __future__ import annotations

import gzip

import pytest
import pytest_twisted
from api_client import ApiClient, links

from stackit.testing.github import PretendGitHub


@pytest.mark.parametrize("base", ["", "/api/v3"])
@pytest_twisted.ensureDeferred
async def test_a_list_is_linked_page_by_page(github: PretendGitHub, api: ApiClient, base: str) -> None:
    names = await github.create_many("octo", 250)
    token = await api.token(await github.apps.create().install("octo"))
    first = await api.get(f"{base}/installation/repositories?per_page=1000", token)
    url = f"{github.web_url}{base}/installation/repositories?per_page=1000&page="
    assert links(first) == {"next": f"{url}2", "last": f"{url}3"}
    assert (first.json()["total_count"], len(first.json()["repositories"])) == (250, 100)
    last = await api.get(f"{url}3", token)
    assert links(last) == {"prev": f"{url}2", "first": f"{url}1"}
    assert [each["full_name"] for each in last.json()["repositories"]] == names[200:]
    assert len((await api.get(f"{base}/installation/repositories", token)).json()["repositories"]) == 30


@pytest_twisted.ensureDeferred
async def test_an_owners_list_shows_what_the_caller_may_see(github: PretendGitHub, api: ApiClient) -> None:
    await github.create("octo/open")
    await github.create("octo/hidden", private=True)
    github.repositories.of("octo/open").fork = True
    github.owners.get("hubot", "User")
    await github.create("hubot/notes")
    await github.create("hubot/diary", private=True)
    personal = github.tokens.personal("hubot", "octo")

    async def names(path: str, token: str = "") -> list[str]:
        answer = await api.get(path, token)
        assert answer.status == 200
        return [each["name"] for each in answer.json()]

    assert await names("/orgs/octo/repos") == ["open"]
    assert await names("/orgs/octo/repos", personal.value) == ["open", "hidden"]
    assert await names("/orgs/octo/repos?type=private", personal.value) == ["hidden"]
    assert await names("/orgs/octo/repos?type=sources", personal.value) == ["hidden"]
    assert await names("/users/hubot/repos", personal.value) == ["notes"]
    assert await names("/user/repos", personal.value) == ["open", "hidden"]
    assert (await api.get("/orgs/hubot/repos")).status == 404
    assert (await api.get("/orgs/octo/repos?type=mine")).status == 422


@pytest_twisted.ensureDeferred
async def test_a_personal_token_says_when_it_ends(github: PretendGitHub, api: ApiClient) -> None:
    personal = github.tokens.personal("hubot", "octo", expires_in=10 * 86400)
    answer = await api.get("/user", personal.value)
    assert (answer.json()["login"], answer.json()["type"]) == ("hubot", "User")
    ends = answer.headers["github-authentication-token-expiration"]
    assert ends[:10] == github.clock.text(10 * 86400)[:10]
    assert ends.endswith(" UTC")
    assert "github-authentication-token-expiration" not in (await api.get("/users/hubot")).headers
    github.clock.advance(10 * 86400 + 1)
    assert (await api.get("/user", personal.value)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_comment_needs_its_permission_and_stays(github: PretendGitHub, api: ApiClient) -> None:
    await github.create("octo/one", private=True)
    installation = await github.apps.create("Note Taker", permissions={"metadata": "read"}).install("octo")
    path = "/repos/octo/one/issues/7/comments"
    assert (await api.ask("POST", path, await api.token(installation), {"body": "Hello"})).status == 403
    await installation.grant(pull_requests="write")
    token = await api.token(installation)
    assert (await api.ask("POST", path, token, {})).status == 422
    made = (await api.ask("POST", path, token, {"body": "Hello"})).json()
    assert made["user"]["login"] == "note-taker[bot]"
    assert (await api.get(path, token)).json() == [made]
    assert (await api.get(path)).status == 404
    assert github.comments.of("octo/one", 7) == ["Hello"]
    await github.admin.rename("octo/one", "two")
    moved = await api.ask("POST", path, token, {"body": "Again"})
    assert moved.status == 307
    assert (await api.ask("POST", moved.headers["location"], token, {"body": "Again"})).status == 201
    assert github.comments.of("octo/two", 7) == ["Hello", "Again"]
    await github.admin.archive("octo/two")
    assert (await api.ask("POST", "/repos/octo/two/issues/7/comments", token, {"body": "Late"})).status == 403


@pytest_twisted.ensureDeferred
async def test_every_answer_has_the_time_of_githubs_clock(github: PretendGitHub, api: ApiClient) -> None:
    url = await github.create("octo/one")
    github.clock.advance(400 * 86400)
    year = github.clock.text()[:4]
    for path in ("/versions", "/nothing", f"{url}/info/refs?service=git-upload-pack"):
        assert f" {year} " in (await api.get(path)).headers["date"]


@pytest_twisted.ensureDeferred
async def test_answers_are_compressed_where_the_client_can_read_them(github: PretendGitHub, api: ApiClient) -> None:
    await github.create_many("octo", 100, private=False)
    path = "/orgs/octo/repos?per_page=100"
    plain, compressed = await api.get(path), await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(compressed.body) == plain.body
    assert len(compressed.body) < len(plain.body) / 10
