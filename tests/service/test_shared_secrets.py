"""Webhook secrets of a fleet: made at the leader, and at every node before anybody signs by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from shared_journals import PretendNode, SharedJournals
from twisted.internet import reactor
from waiting import until

from stackit.api.errors import StackitError
from stackit.api.nodes import Node
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget
from stackit.journal.errands import Errands
from stackit.service.shared_secrets import COLLECTION, SharedSecrets, load

WIDGET, OCTO = HookTarget.parse("octo/widget"), HookTarget.parse("octo")


class Member(PretendNode):
    def nodes(self) -> list[Node]:
        return [Node(name="a"), Node(name="b")]


class Pair:
    """Two nodes, the first of which leads. ``refreshed`` and ``notices`` are those of both."""

    def __init__(self, directory: Path) -> None:
        self.journals = SharedJournals(reactor)
        self.refreshed: list[str] = []
        self.notices: list[str] = []
        self.directory = directory
        self.nodes: list[Member] = []
        self.files: list[SecretFiles] = []
        self.errands: list[Errands] = []
        self.secrets = [self._node(name) for name in "ab"]

    def _node(self, name: str) -> SharedSecrets:
        journal, node = self.journals.node(), Member(name, leads=False)
        (self.directory / name).mkdir()
        self.nodes.append(node)
        self.files.append(SecretFiles(self.directory / name, shared=True))
        self.errands.append(Errands(journal, node, reactor=reactor, now=lambda: 0.0, shared=True))
        return SharedSecrets(
            self.files[-1],
            journal,
            node,
            self.errands[-1],
            reactor=reactor,
            refresh=lambda: self.refreshed.append(name),
            notice=self.notices.append,
        )


@pytest_twisted.async_yield_fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(tmp_path)
    yield made
    for errands, secrets in zip(made.errands, made.secrets, strict=True):
        await errands.stop()
        await secrets.stop()


@pytest_twisted.ensureDeferred
async def test_a_secret_is_at_every_node_when_the_one_who_shares_it_goes_on(pair: Pair) -> None:
    here, there = pair.files
    path = here.current(WIDGET)
    secret = here.make(path)
    await pair.secrets[0].share([path])
    copy = there.current(WIDGET)
    assert there.read(copy) == secret
    assert copy.stat().st_mode & 0o777 == 0o600
    assert pair.refreshed == ["b"]

    # A change of it: the next one beside it, and then in its place.
    upcoming = here.make(here.next(WIDGET))
    await pair.secrets[0].share([here.next(WIDGET)])
    assert there.contents() == {"repo+octo+widget": secret, "repo+octo+widget+next": upcoming}
    here.replace(WIDGET, here.home(WIDGET, ()))
    await pair.secrets[0].share([path, here.next(WIDGET)])
    assert there.contents() == here.contents() == {"repo+octo+widget": upcoming}
    here.remove(WIDGET)
    await pair.secrets[0].share([path, here.next(WIDGET)])
    assert there.contents() == {}
    assert pair.notices == []


@pytest_twisted.ensureDeferred
async def test_who_cannot_give_a_secret_to_all_goes_no_further(pair: Pair) -> None:
    here, there = pair.files
    there.directory.touch()  # it is no directory
    path = here.current(WIDGET)
    here.make(path)
    with pytest.raises(StackitError, match="not every node of the fleet has taken the webhook secret"):
        await pair.secrets[0].share([path])
    assert pair.notices
    assert "a webhook secret of the fleet cannot be kept here" in pair.notices[0]
    assert here.read(path) not in "".join(pair.notices)


@pytest_twisted.ensureDeferred
async def test_secrets_from_before_the_fleet_are_given_to_it_and_those_that_are_gone_do_not_come_back(
    pair: Pair, tmp_path: Path
) -> None:
    here, there = pair.files
    secret, old = here.make(here.current(OCTO)), there.make(there.current(WIDGET))
    pair.nodes[0].lead(True)
    await until(lambda: there.read(there.current(OCTO)) == secret)
    await pair.journals.node().put(COLLECTION, {"repo+octo+widget": b""})
    await until(lambda: there.read(there.current(WIDGET)) == "")
    there.make(there.current(WIDGET))  # as from a backup
    pair.nodes[0].lead(False)
    pair.nodes[1].lead(True)
    await until(lambda: there.contents() == {"owner+octo": secret})
    assert (await pair.journals.node().documents(COLLECTION))["repo+octo+widget"] == b""
    late = SecretFiles(tmp_path / "late")
    (tmp_path / "late").mkdir()
    late.directory.mkdir()
    (late.directory / "repo+octo+widget").write_text(old)
    load(late, pair.journals.node())
    assert late.contents() == {"owner+octo": secret}


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_none_of_a_secret_is_written_nowhere(pair: Pair, tmp_path: Path) -> None:
    names = ["../evil", "owner+octo/../../evil", "config", ".owner+octo.new", "owner+octo"]
    await pair.journals.node().put(COLLECTION, dict.fromkeys(names, b"secret"))
    await until(lambda: pair.files[1].contents() == {"owner+octo": "secret"})
    assert files_below(tmp_path) == {"owner+octo"}


def files_below(directory: Path) -> set[str]:
    return {each.name for each in directory.rglob("*") if each.is_file()}
