"""What a webhook at GitHub should be, and the faults of one that is not."""

from __future__ import annotations

from typing import Any

import pytest

from stackit.github.hooks.faults import faults_of, missing
from stackit.github.hooks.found import Account, AppPage, FoundHook, HookConfig
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook, wanted_hook

REPO, OWNER, APP = HookTarget("repo", "octo/widget"), HookTarget("owner", "octo"), HookTarget("app", "main")
URL = "https://stackit.example.org/api/v1/webhooks/github"
WANTED = WantedHook(urls=(URL, "https://stackit.example.org/api/webhooks/github"), events=frozenset({"push", "issues"}))


def hook(**changes: Any) -> FoundHook:
    config: dict[str, Any] = {"url": URL, "content_type": "json", "secret": "********", "insecure_ssl": "0"}
    config |= changes.pop("config", {})
    found: dict[str, Any] = {"id": 7, "active": True, "events": ("push", "issues"), **changes}
    return FoundHook(config=HookConfig(**config), **found)


RIGHT: dict[str, dict[str, Any]] = {
    "as made": {},
    "by the second prefix": {"config": {"url": "https://stackit.example.org/api/webhooks/github"}},
    "another spelling of the URL": {"config": {"url": "HTTPS://Stackit.example.org:443/api/v1/webhooks/github"}},
    "all events": {"events": ("*",)},
    "more events": {"events": ("push", "issues", "fork")},
    "a number": {"config": {"insecure_ssl": 0}},
    "an App's": {"id": None, "active": None},
}


@pytest.mark.parametrize("changes", RIGHT.values(), ids=RIGHT.keys())
def test_a_webhook_as_it_should_be_has_no_fault(changes: Any) -> None:
    assert list(faults_of(REPO, hook(**changes), WANTED)) == []


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "inactive": ({"active": False}, "is switched off"),
    "elsewhere": (
        {"config": {"url": "https://old.example.org/hook"}},
        f"sends to https://old.example.org/hook, and not to {URL}",
    ),
    "content_type": ({"config": {"content_type": "form"}}, "sends form, and not json"),
    "insecure_ssl": ({"config": {"insecure_ssl": "1"}}, "GitHub does not check certificates"),
    "events": ({"events": ("push",)}, "does not tell of issues, which a handler wants"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("target", [REPO, OWNER, APP], ids=str)
def test_each_fault_is_told_with_the_command_that_mends_it(kind: str, target: HookTarget) -> None:
    changes, text = WRONG[kind]
    settings = "https://github.com/settings/apps/main" if target == APP else None
    (fault,) = faults_of(target, hook(**{"settings": settings, **changes}), WANTED)
    assert fault.kind == kind
    assert text in fault.text
    if kind == "events" and target == APP:
        expected = "https://github.com/settings/apps/main/permissions, then stackit hook check app:main"
    else:
        expected = f"stackit hook update {target.text}"
    assert fault.mend == expected
    assert fault.line(target) == f"{target.label} {fault.text}; mend it: {expected}"


def test_a_webhook_without_a_secret_gets_one_by_a_rotation() -> None:
    (fault,) = faults_of(REPO, hook(config={"secret": None}), WANTED)
    assert (fault.kind, fault.mend) == ("unsigned", "stackit hook rotate octo/widget")


def test_one_without_a_url_sends_nowhere() -> None:
    (fault,) = faults_of(APP, hook(config={"url": None}), WANTED)
    assert (fault.kind, fault.text) == ("elsewhere", "has no URL")


def test_without_a_public_url_no_url_is_compared() -> None:
    unknown = WantedHook(urls=(), events=frozenset({"push"}))
    assert list(faults_of(REPO, hook(config={"url": "https://anywhere.example.org/"}), unknown)) == []


def test_a_url_is_shown_without_what_may_be_a_credential() -> None:
    (fault,) = faults_of(REPO, hook(config={"url": "https://me:hushhushhush@old.example.org/"}), WANTED)
    assert "hushhushhush" not in fault.line(REPO)


def test_what_an_app_lacks_is_named_with_the_page_where_it_is_given() -> None:
    page = "https://github.com/organizations/octo/settings/apps/main"
    (fault,) = faults_of(APP, hook(id=None, active=None, settings=page, lacking=("contents: read",)), WANTED)
    assert "lacks the permission contents: read" in fault.text
    assert fault.mend == f"{page}/permissions, then stackit hook check app:main"


def test_the_page_of_an_app_is_that_of_its_owner() -> None:
    of_person = AppPage(slug="main")
    of_octo = AppPage(slug="main", owner=Account(login="octo", type="Organization"))
    assert of_person.settings_url("https://github.com") == "https://github.com/settings/apps/main"
    assert of_octo.settings_url("https://ghe.example.org") == (
        "https://ghe.example.org/organizations/octo/settings/apps/main"
    )


def test_a_webhook_that_is_missing_is_made_and_one_that_is_near_may_be_meant() -> None:
    alone = missing(OWNER)
    assert (alone.kind, alone.mend) == ("missing", "stackit hook create octo")
    near = missing(OWNER, hook(id=9, config={"url": "https://old.example.org/api/webhooks/github"}))
    assert "the one with the id 9 sends to https://old.example.org/api/webhooks/github" in near.text
    assert near.mend == "stackit hook create octo, or, if that one should send here: stackit hook update octo --id 9"


def test_the_events_are_those_that_handlers_want_and_a_webhook_can_have() -> None:
    patterns = ["push", "installation", "meta", "ping", "organization", "issues", "issues"]
    wanted = wanted_hook("https://x.example.org/", ["/api/v1", ""], "any", patterns)
    assert wanted.urls == ("https://x.example.org/api/v1/webhooks/github", "https://x.example.org/webhooks/github")
    assert wanted.content_type == "json"
    assert wanted.needed("app") == wanted.needed("owner") == {"push", "organization", "issues"}
    assert wanted.needed("repo") == {"push", "issues"}
    assert wanted.chosen("repo") == ["issues", "meta", "push"]


def test_a_handler_of_all_events_makes_do_with_those_that_come() -> None:
    wanted = wanted_hook(None, [""], "form", ["push", None])
    assert (wanted.urls, wanted.content_type) == ((), "form")
    assert wanted.needed("repo") == {"push"}
    assert wanted.chosen("repo") == ["*"]


@pytest.mark.parametrize(
    ("text", "target", "scope"),
    [
        ("app:main", HookTarget("app", "main"), "app:main"),
        ("octo", HookTarget("owner", "octo"), "owner:octo"),
        ("owner:octo", HookTarget("owner", "octo"), "owner:octo"),
        ("octo/widget", HookTarget("repo", "octo/widget"), "repo:octo/widget"),
        ("repo:Octo/Widget", HookTarget("repo", "Octo/Widget"), "repo:Octo/Widget"),
    ],
)
def test_a_target_is_read_as_a_command_or_a_scope_names_it(text: str, target: HookTarget, scope: str) -> None:
    found = HookTarget.parse(text)
    assert found == target
    assert (found.scope, found.key) == (scope, scope.lower())
    assert HookTarget.parse(found.text) == HookTarget.parse(found.scope) == found


@pytest.mark.parametrize("text", ["", "app:", "app:a/b", "octo/", "/widget", "a/b/c", "team:octo", "octo/x.git", "o o"])
def test_what_names_no_webhook_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected app:NAME, ORGANIZATION or OWNER/NAME"):
        HookTarget.parse(text)
