"""Which signer may tell of which event: of a repository by its name, by its id, and by a name that it had."""

from __future__ import annotations

import pytest_twisted
from registry_harness import RegistryHarness, found

from stackit import Event, Repo
from stackit.service.signers import Signers


def push(name: str, number: int | None = None) -> Event:
    """A push of a repository that the body calls so, with this id."""
    return Event(name="push", id="", delivery="d", received_at=0.0, body=b"{}", repo=Repo.parse(name), repo_id=number)


@pytest_twisted.ensureDeferred
async def test_an_id_in_the_body_leads_to_no_repository_of_another_signer() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"), found(8, "acme/gadget", app="other"), found(9, "octo/sprocket"))
    speaks_for = Signers(house.registry, lambda _app, _owner: False).speaks_for
    for signer in ("repo:octo/widget", "owner:octo", "app:main"):
        assert speaks_for(signer, push("octo/widget", 7))
        assert speaks_for(signer, push("octo/widget")), "the id is not needed"
        assert speaks_for(signer, push("octo/widget", 99)), "a new one may have the name by now"
        assert not speaks_for(signer, push("octo/widget", 8)), (signer, "a push would reach acme/gadget")
        assert not speaks_for(signer, push("acme/gadget", 7)), (signer, "a handler would see acme/gadget")
    assert not speaks_for("repo:octo/widget", push("octo/widget", 9))
    assert speaks_for("owner:octo", push("octo/widget", 9)), "both are its own: they may have swapped their names"


@pytest_twisted.ensureDeferred
async def test_who_had_a_repository_before_its_transfer_speaks_for_it_no_more() -> None:
    house = RegistryHarness()
    await house.discover(found(7, "octo/widget"))
    speaks_for = Signers(house.registry, lambda _app, _owner: False).speaks_for
    assert speaks_for("owner:octo", push("octo/widget", 7))
    await house.discover(found(7, "acme/widget", app="other"))
    for number in (7, None):
        assert not speaks_for("owner:octo", push("octo/widget", number))
        assert not speaks_for("app:main", push("octo/widget", number))
        assert speaks_for("repo:octo/widget", push("octo/widget", number)), "its own webhook went with it"
        assert speaks_for("app:other", push("acme/widget", number))


@pytest_twisted.ensureDeferred
async def test_an_app_speaks_for_nothing_of_an_owner_for_whom_another_app_is_installed_and_it_is_not() -> None:
    house = RegistryHarness("octo/file")
    await house.discover(found(7, "octo/widget"), found(8, "acme/gadget", app="other"))
    speaks_for = Signers(house.registry, lambda app, owner: (app, owner) == ("other", "octo")).speaks_for
    for name in ("octo/unknown", "octo/file", "octo/widget"):
        assert speaks_for("app:main", push(name))
        assert not speaks_for("app:other", push(name))
        assert speaks_for("owner:octo", push(name))
    assert speaks_for("app:other", push("acme/gadget"))
    assert speaks_for("app:other", push("hubot/unknown")), "nobody knows better"
    told = Event(name="installation", id="", delivery="d", received_at=0.0, body=b"{}")
    assert speaks_for("app:other", told)
