"""Which patterns wait for what never comes."""

from __future__ import annotations

import re

import pytest

from stackit import hookimpl, on
from stackit.bus.bus import Bus
from stackit.github.actions import ACTIONS, doubt
from stackit.github.event_types import REQUIRED
from stackit.testing import event, push_event


def doubts(*patterns: str) -> list[str]:
    @on(*patterns)
    def deploy(event: object) -> None:
        """A handler."""

    class Handlers:
        def __init__(self) -> None:
            self.deploy = deploy

        @hookimpl
        def stackit_event(self, event: object) -> None:
            """Of every event."""

    bus = Bus()
    bus.register("diary", Handlers())
    return bus.doubts(doubt)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("pussh", 'stackit knows no event of GitHub\'s with this name; did you mean "push"?'),
        ("pussh.*", 'did you mean "push"?'),
        ("issue.opened", 'did you mean "issues"?'),
        ("pull_requests.*", 'did you mean "pull_request"?'),
        ("zzz", "stackit knows no event of GitHub's with this name"),
        ("issues.openned", 'stackit knows no such action of issues; did you mean "issues.opened"?'),
        ("issues.Opened", 'did you mean "issues.opened"?'),
        ('issues."opened now"', 'did you mean "issues.opened"?'),
        ("star.zzz", "stackit knows no such action of star (there are: created, deleted)"),
        ("push.created", 'push has no actions; did you mean "push"?'),
        ("status.success", 'status has no actions; did you mean "status"?'),
        ("ping", "a ping is answered by stackit itself, and reaches no handler"),
        ("ping.*", "reaches no handler"),
        ("pull_request.merged", 'a merge is a "pull_request.closed" whose payload says so: pull_request.merged'),
        ("refs_changed", "come to the hook stackit_refs_changed"),
        ("refs_changed.push", "come to the hook stackit_refs_changed"),
    ],
)
def test_a_pattern_that_waits_for_what_never_comes_is_told_with_what_was_meant(pattern: str, reason: str) -> None:
    (told,) = doubts("issues.closed", pattern)
    assert told.startswith(f"diary: the handler deploy asks for {pattern!r}, which may never come: ")
    assert told.endswith(reason)
    assert told.isprintable()


def test_no_event_that_comes_is_doubted() -> None:
    wanted = [name for name in REQUIRED if name != "ping"]
    wanted += [f"{name}.{action}" for name, actions in ACTIONS.items() for action in actions]
    wanted += ["*", "push.*", "issues.*", "enterprise.anonymous_access_enabled", "cache_sync"]
    wanted += ["repository_dispatch.whatever", 'repository_dispatch."deploy: prod"']
    assert doubts(*wanted) == []


@pytest.mark.parametrize(
    ("name", "action", "meant"),
    [("issues", "openned", "issues.opened"), ("push", "created", "push"), ("ping", None, "reaches no handler")],
)
def test_an_event_that_never_comes_is_no_silent_test(name: str, action: str | None, meant: str) -> None:
    with pytest.warns(UserWarning, match=re.escape(meant)):
        event(name, action=action)
    with pytest.warns(UserWarning, match='did you mean "push"'):
        event("pussh", {})
    with pytest.raises(ValueError, match='did you mean "push"'):
        event("pussh")


@pytest.mark.filterwarnings("error")
def test_an_event_that_comes_is_made_without_a_warning() -> None:
    push_event()
    event("issues", action="closed")
    event("issues", {"action": "closed"})
    event("deployment", {"deployment": {}})
    event("repository_dispatch", action="deploy: prod")


def test_a_doubt_is_about_the_name_alone_where_no_action_is_asked_for() -> None:
    assert doubt("issues") is None
