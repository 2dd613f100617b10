"""Personal tokens: their end is known from GitHub's own answers, and told in time."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from stackit.api.events import Repo
from stackit.api.repos import ManagedRepo
from stackit.config.model import Config
from stackit.github.api import TokenCredential, TokenExpiries
from stackit.github.api.expiries import parse_expiry
from stackit.github.apps.personal import PersonalTokens

from .conftest import Harness

DAY = 86400.0


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-11-29 00:00:00 UTC", 1795910400.0),
        ("2026-11-28 16:00:00 -0800", 1795910400.0),
        ("soon", None),
        ("", None),
    ],
)
def test_githubs_two_ways_to_write_the_end_of_a_token(text: str, end: float | None) -> None:
    assert parse_expiry(text) == end


def test_only_the_last_thousand_tokens_are_remembered() -> None:
    expiries = TokenExpiries()
    for number in range(1001):
        expiries.note(f"Bearer {number}", "2026-11-29 00:00:00 UTC")
    assert expiries.end_of("0") is None
    assert expiries.end_of("1000") == expiries.end_of("1") == 1795910400.0


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_personal_token_is_told_two_weeks_before(harness: Harness, tmp_path: Path) -> None:
    github = harness.github
    hubot, octo = github.owners.get("hubot"), github.owners.get("octo")
    token = github.tokens.personal(hubot, octo, permissions={"metadata": "read"}, expires_in=15 * DAY)
    (tmp_path / "token").write_text(f"{token.value}\n")
    (tmp_path / "of-git").write_text("another-token")
    repos = [
        ManagedRepo(repo=Repo("octo", name), url=f"{github.web_url}/octo/{name}.git", token_file=tmp_path / file)
        for name, file in (("widget", "token"), ("gadget", "token"), ("gizmo", "of-git"), ("gone", "no-file"))
    ]
    part = PersonalTokens(
        Config(state_dir=tmp_path),
        repos,
        harness.clients.expiries,
        reactor=harness.time,
        now=harness.time.now,
        notice=harness.notices.append,
    )
    part.start()
    assert [each["expires_at"] for each in part.status()] == [None, None, None]
    client = harness.clients.client(github.api_url, TokenCredential("hubot", lambda: token.value))
    await client.get("/rate_limit", object)
    assert [(Path(each["file"]).name, each["expires_at"] is None) for each in part.status()] == [
        ("no-file", True),
        ("of-git", True),
        ("token", False),
    ]
    (family,) = part.collect()
    assert sorted(int(each.value) for each in family.samples) == [0, 0, int(token.expires_at)]
    await harness.time.pass_time(DAY - 3600)
    assert harness.notices == []
    await harness.time.pass_time(3 * 3600)
    (notice,) = harness.notices
    assert notice.startswith(f"the token in {tmp_path}/token expires in 14 days, at ")
    assert part.problems() == []
    await harness.time.pass_time(14 * DAY)
    assert harness.notices == [notice]
    (problem,) = part.problems()
    assert problem.startswith(f"the token in {tmp_path}/token has expired, at ")
    assert token.value not in notice + problem
    (tmp_path / "token").write_text("a-new-token")
    assert part.problems() == []
    await part.stop()
