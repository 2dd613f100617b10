"""The mirror's metrics: each name as Prometheus scrapes it, after occurrences as stackit observes them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from scraping import NOW, WIDGET, Scraped

import stackit
from stackit import RefChange, Repo
from stackit.plugins.mirror.sync.fallback import REASONS


def test_syncs_are_counted_and_timed_and_a_good_one_verifies_the_mirror(scraped: Scraped) -> None:
    scraped.observe(name="synced", repo=Repo("Octo", "Widget"), cause="manual", outcome="changed", seconds=0.3)
    assert scraped.value("stackit_mirror_syncs_total", cause="manual", outcome="changed") == 1
    assert scraped.value("stackit_mirror_sync_seconds_count") == 1
    assert scraped.value("stackit_mirror_sync_seconds_sum") == 0.3
    assert scraped.value("stackit_mirror_verified_timestamp_seconds", repo="octo/widget") == NOW


def test_a_push_verifies_nothing_but_its_own_ref(scraped: Scraped) -> None:
    scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="changed", seconds=0.1)
    assert scraped.value("stackit_mirror_verified_timestamp_seconds", repo="octo/widget") == 0


def test_a_push_that_falls_back_to_git_fetch_is_counted_with_its_reason(scraped: Scraped) -> None:
    scraped.observe(name="fallback", repo=WIDGET, reason="refused")
    assert scraped.value("stackit_mirror_fallbacks_total", reason="refused") == 1


def test_a_sync_that_failed_verifies_nothing(scraped: Scraped) -> None:
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="failed", seconds=1.0, error="refused")
    assert scraped.value("stackit_mirror_syncs_total", cause="backstop", outcome="failed") == 1
    assert scraped.value("stackit_mirror_verified_timestamp_seconds", repo="octo/widget") == 0


def test_the_state_of_a_mirror_is_the_one_that_is_1(scraped: Scraped) -> None:
    for state in ("in_step", "failing"):
        scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="failed", state=state, error="refused")
    assert scraped.value("stackit_mirror_state", repo="octo/widget", state="failing") == 1
    assert scraped.value("stackit_mirror_state", repo="octo/widget", state="in_step") == 0


def test_refs_that_a_mirror_cannot_hold_are_shown_until_there_are_none(scraped: Scraped) -> None:
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", state="in_step")
    assert scraped.value("stackit_mirror_missing_refs", repo="octo/widget") == 0
    scraped.observe(name="synced", repo=WIDGET, cause="push", outcome="changed", state="behind", error="x", missing=3)
    assert scraped.value("stackit_mirror_missing_refs", repo="octo/widget") == 3
    scraped.observe(name="synced", repo=WIDGET, cause="backstop", outcome="unchanged", state="in_step")
    assert scraped.value("stackit_mirror_missing_refs", repo="octo/widget") == 0


def reasons_raised() -> set[str]:
    """The reasons that the mirror and the HTTP client give to a Fallback or a RemoteError in so many words."""
    package = Path(stackit.__file__).parent
    files = [*(package / "plugins" / "mirror").rglob("*.py"), *(package / "http" / "client").glob("*.py")]
    calls = [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("Fallback", "RemoteError")
    ]
    return {str(each.value) for call in calls for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)}


def test_every_reason_of_a_fallback_begins_at_0(scraped: Scraped) -> None:
    assert reasons_raised() == REASONS
    assert [scraped.value("stackit_mirror_fallbacks_total", reason=each) for each in REASONS] == [0] * len(REASONS)


def test_a_repository_that_is_not_managed_any_more_has_no_metrics(scraped: Scraped) -> None:
    scraped.observe(name="synced", repo=WIDGET, cause="manual", outcome="changed", state="in_step")
    del scraped.app.repos._managed[WIDGET.key]
    for name in ("stackit_mirror_state", "stackit_mirror_verified_timestamp_seconds", "stackit_mirror_missing_refs"):
        assert scraped.labels(name) == []


def test_repairs_of_mirrors_are_counted(scraped: Scraped) -> None:
    scraped.observe(name="healed", repo=WIDGET, reason="HEAD written anew: 1", count=1)
    assert scraped.value("stackit_mirror_healed_total") == 1


def test_the_time_until_a_push_is_visible_is_observed(scraped: Scraped) -> None:
    scraped.observe(name="visible", repo=WIDGET, seconds=0.7)
    assert scraped.value("stackit_push_visible_seconds_sum") == 0.7


def test_ref_changes_are_counted_by_kind_and_those_that_only_the_backstop_found_apart(scraped: Scraped) -> None:
    created = RefChange("refs/heads/a", "0" * 40, "1" * 40, "created")
    deleted = RefChange("refs/heads/b", "1" * 40, "0" * 40, "deleted")
    scraped.observe(name="refs_changed", repo=WIDGET, cause="push", delivery="d", changes=(created,))
    scraped.observe(name="refs_changed", repo=WIDGET, cause="backstop", changes=(created, deleted))
    assert scraped.value("stackit_mirror_ref_changes_total", kind="created") == 2
    assert scraped.value("stackit_mirror_ref_changes_total", kind="deleted") == 1
    assert scraped.value("stackit_backstop_found_total") == 2


def test_no_stream_of_new_values_makes_ever_more_series(scraped: Scraped) -> None:
    for n in range(200):
        scraped.observe(name="synced", repo=WIDGET, cause=f"cause_{n}", outcome=f"outcome_{n}", seconds=0.1)
        scraped.observe(name="fallback", repo=WIDGET, reason=f"reason_{n}")
        kind: Any = f"kind_{n}"
        odd = RefChange("refs/heads/a", "0" * 40, "1" * 40, kind)
        scraped.observe(name="refs_changed", repo=WIDGET, cause="push", changes=(odd,))
    assert scraped.value("stackit_mirror_syncs_total", cause="other", outcome="other") == 200
    assert scraped.value("stackit_mirror_ref_changes_total", kind="other") == 200
    assert len(scraped.labels("stackit_mirror_fallbacks_total")) == len(REASONS) + 1
