"""The events that the webhook secret of an App, an owner or a repository may tell of."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from stackit import Event, Repo
from stackit.api.repos import ManagedRepo, Repos, ReposChange
from stackit.github.scopes import scope, speaks_for

WIDGET = Repo("octo", "Widget")


def event(name: str, repo: Repo | None = None, **payload: Any) -> Event:
    return Event(name=name, id="1", delivery="d", received_at=0.0, repo=repo, body=json.dumps(payload).encode())


@pytest.mark.parametrize(
    ("signer", "allowed"),
    [
        ("repo:octo/widget", True),
        ("repo:OCTO/WIDGET", True),
        ("repo:octo/widget2", False),
        ("repo:acme/widget", False),
        ("owner:octo", True),
        ("owner:Octo", True),
        ("owner:oct", False),
        ("owner:octo/widget", False),
        ("app:main", True),
        ("team:octo", False),
        ("octo", False),
        ("owner", False),
    ],
)
def test_a_scope_speaks_for_its_own_repositories_in_any_letter_case(signer: str, allowed: bool) -> None:
    assert speaks_for(signer, event("push", WIDGET)) is allowed


def test_an_owner_on_github_does_not_speak_for_the_same_name_on_another_forge() -> None:
    elsewhere = Repo("octo", "widget", "git.example.org")
    assert not speaks_for("owner:octo", event("push", elsewhere))
    assert not speaks_for("repo:octo/widget", event("push", elsewhere))
    assert speaks_for("repo:git.example.org/octo/widget", event("push", elsewhere))


@pytest.mark.parametrize(
    ("payload", "owners"),
    [
        ({"organization": {"login": "Octo"}}, {"owner:octo"}),
        ({"organization": {"login": "acme"}, "account": {"login": "octo"}}, {"owner:acme"}),
        ({"account": {"login": "octo"}, "installation": {"id": 7}}, set()),
        ({"organization": {"login": 7}}, set()),
        ({"organization": "octo"}, set()),
        ({"organization": None}, set()),
        ({}, set()),
    ],
)
def test_without_a_repository_an_owner_speaks_for_its_organization_and_a_repository_for_nothing(
    payload: dict[str, Any], owners: set[str]
) -> None:
    told = event("organization", None, **payload)
    candidates = {"owner:octo", "owner:acme", "owner:", "repo:octo/widget", "repo:", "app:main"}
    assert {each for each in candidates if speaks_for(each, told)} == {*owners, "app:main"}


def test_a_repository_in_the_body_counts_and_the_organization_beside_it_does_not() -> None:
    told = event("push", Repo("acme", "widget"), organization={"login": "octo"})
    assert not speaks_for("owner:octo", told)


def test_a_scope_is_its_kind_and_its_name() -> None:
    assert scope("repo", WIDGET) == "repo:octo/Widget"


def test_a_repository_that_was_renamed_is_told_of_by_its_old_secret_and_a_new_one_of_the_old_name_is_its_own() -> None:
    one, other = ManagedRepo(repo=WIDGET, url="u", id=1), ManagedRepo(repo=Repo("octo", "gadget"), url="u", id=2)
    repos = Repos([one, other])
    sprocket = Repo("octo", "sprocket")
    assert not speaks_for("repo:octo/widget", event("push", sprocket), repos.get)
    moved = msgspec.structs.replace(one, repo=sprocket, former=(WIDGET.key,))
    repos.apply(ReposChange(moved=((one, moved),)))
    assert speaks_for("repo:octo/widget", event("push", sprocket), repos.get)
    assert not speaks_for("repo:octo/gadget", event("push", sprocket), repos.get)
    assert not speaks_for("repo:octo/widget", event("push", other.repo), repos.get)
    repos.apply(ReposChange(added=(ManagedRepo(repo=WIDGET, url="u", id=3),)))  # another one takes the name
    assert not speaks_for("repo:octo/widget", event("push", sprocket), repos.get)
    assert not speaks_for("repo:no name", event("push", sprocket), repos.get)
