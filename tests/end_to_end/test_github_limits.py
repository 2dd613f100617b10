"""GitHub's limits and its clock: no request goes beyond a limit, and pushes are visible all the while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import check_log

from stackit.testing import PretendGitHub, RunningStackit, payload_for

PLUGIN = """
from stackit import ApiError, hookimpl, on


class Asker:
    @hookimpl
    def stackit_service(self, app):
        self.app = app

    @on("issues", ordered=False)
    async def ask(self, event):
        try:
            await self.app.github(event.repo).get("/repos/{owner}/{repo}", dict)
        except ApiError as problem:
            print("asked in vain:", problem.reason)
            raise
        print("asked with success")
"""


class Harness:
    """A stackit whose one plugin asks the API at each issue, and a mirror by an App."""

    def __init__(self, github: PretendGitHub, directory: Path) -> None:
        self.github = github
        self.app = github.apps.create("main")
        self._directory = directory
        self.server: RunningStackit

    async def start(self, running_stackit: Any) -> None:
        await self.github.create("octo/widget", private=True)
        await self.github.commit("octo/widget")
        await self.github.create("hubot/spoon")
        self.installation, self.other = await self.app.install("octo"), await self.app.install("hubot")
        (self._directory / "asker.py").write_text(PLUGIN)
        key = self.app.write_key(self._directory / "app.pem")
        self.server = await running_stackit(
            config={
                "apps": [
                    {
                        "name": "main",
                        "app_id": self.app.id,
                        "private_key_file": key,
                        "api_url": self.github.api_url,
                    }
                ],
                "repos": [{"name": "octo/widget", "app": "main"}],
                "plugins": {"asker": {"file": str(self._directory / "asker.py") + ":Asker"}},
            }
        )
        self.github.webhook(self.server.webhook_url, self.server.secret or "")

    async def push(self) -> None:
        """Push, and wait until the commit is visible in the mirror."""
        await self.server.wait_for((await self.github.push("octo/widget")).guid, visible=True)

    async def issue(self, repo: str = "octo/widget") -> str:
        return (await self.github.send("issues", payload_for("issues", repo=repo))).guid

    async def says(self, text: str, count: int = 1) -> None:
        async def said() -> bool:
            return self.server.log.count(text) >= count

        await self.server.until(said, f"{text!r}, {count} times")

    async def metric(self, name: str) -> float:
        return (await self.server.metrics())[name]


@pytest_twisted.ensureDeferred
async def test_no_request_goes_beyond_a_limit_and_pushes_stay_visible(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    github = pretend_github
    harness = Harness(github, tmp_path)
    await harness.start(running_stackit)
    await harness.push()
    for repo in ("octo/widget", "hubot/spoon"):
        await harness.server.wait_for(await harness.issue(repo))
    limits = github.api.limits
    asked = github.api.count("/repos/{owner}/{repo}")

    # The primary limit: what is refused once is asked no more until its end, by however many handlers.
    limits.exhaust(harness.installation, seconds=600, status=429)
    for _ in range(3):
        await harness.issue()
    await harness.says("asked in vain: rate_limited", 3)
    assert await harness.metric('stackit_github_rate_limit_remaining{app="main",resource="core"}') == 0
    assert await harness.metric('stackit_github_limited_seconds{app="main"}') > 0
    assert github.api.count("/repos/{owner}/{repo}") == asked + 1
    await harness.push()

    # A secondary limit whose Retry-After is blank, for another installation; and one without any, for the App itself.
    limits.hold(harness.other, retry_after="")
    for _ in range(3):
        await harness.issue("hubot/spoon")
    await harness.says("asked in vain: secondary_limit", 3)
    limits.hold(harness.app, status=429)
    for _ in range(3):
        await harness.issue("acme/fork")
    await harness.says("asked in vain: secondary_limit", 4)
    await harness.push()
    assert await harness.metric('stackit_github_limited_seconds{app="main"}') > 30
    (shown,) = (await harness.server.admin("GET", "{prefix}/github")).json()["api"]["apis"]
    assert shown["api_url"] == github.api_url
    assert limits.ban_points.total() == 0
    assert max(limits.most_concurrent.values()) == 1
    assert github.api.refusals == []
    assert await harness.server.stop() == 0


@pytest.mark.parametrize("ahead", [300, -300])
@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_five_minutes_off_is_told_of_and_harms_nothing(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path, ahead: int
) -> None:
    pretend_github.clock.advance(-ahead)
    harness = Harness(pretend_github, tmp_path)
    await harness.start(running_stackit)
    await harness.push()
    await harness.server.wait_for(await harness.issue())
    (shown,) = (await harness.server.admin("GET", "{prefix}/github")).json()["api"]["apis"]
    assert abs(shown["clock_offset"] + ahead) < 10
    assert await harness.server.stop() == 0
    told = [line for line in harness.server.log.splitlines() if "the clock of this machine is" in line]
    assert len(told) == 1
    assert f"seconds {'ahead of' if ahead > 0 else 'behind'} that of 127.0.0.1" in told[0]
    assert pretend_github.api.count("/app/installations", status=401) <= 1
    assert pretend_github.api.count("/app/installations/{installation_id}/access_tokens", status=401) == 0
    assert not [each for each in ("refuses", "will try again", "failed") if each in harness.server.log]
    check_log(harness.server.log)
