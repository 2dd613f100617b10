"""Mirrors that get another home: copies first, then the hand-over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest_twisted
from fleet_nodes import SHARDS, Member, Nodes
from held_link import HeldLink
from twisted.internet.defer import Deferred

from stackit import Repo
from stackit.api.nodes import Node
from stackit.journal.postgres.ownership import shard_at
from stackit.testing.postgres import PostgresServer


class Copier:
    """A plugin that keeps mirrors. It notes what arrives, and says that it is there when the test wants it."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.calls: list[Mapping[int, Node]] = []
        member.fleet.when_arriving(self.calls.append)

    def repo(self, number: int) -> Repo:
        """A repository of a shard."""
        found = (Repo("octo", f"r{n}") for n in range(100_000))
        return next(repo for repo in found if self.member.fleet.shard(repo) == number)


@pytest_twisted.async_yield_fixture
async def link(postgres_server: PostgresServer) -> AsyncIterator[HeldLink]:
    """A link to the server that all tests share."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = HeldLink(reactor, postgres_server.port)
    yield made
    await made.close()


@pytest_twisted.ensureDeferred
async def test_a_mirror_moves_when_its_copy_is_there_and_is_at_one_place_all_the_time(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    b = nodes.start("b")
    copier = Copier(b)
    await nodes.until(lambda: copier.calls)
    arriving = b.fleet.arriving()
    assert copier.calls == [arriving]
    assert {node.name for node in arriving.values()} == {"a"}
    first, *others = arriving
    repo = copier.repo(first)
    await nodes.until(lambda: b.owns("e"))
    assert not b.owns("m")
    assert a.fleet.is_here(repo)
    assert not b.fleet.is_here(repo)
    home = b.fleet.home(repo)
    assert home is not None
    assert home.name == "a"
    b.fleet.prepared([first])
    await nodes.until(lambda: b.fleet.is_here(repo))
    assert not a.ownership.owns(shard_at("m", first))
    assert b.owns("m") == {first}
    await nodes.until(lambda: not a.fleet.is_here(repo))
    await nodes.until(lambda: set(b.fleet.arriving()) == set(others))
    assert copier.calls[-1] == b.fleet.arriving()
    b.fleet.prepared([first, *others])
    await nodes.until(lambda: nodes.is_divided(a, b))
    for member in (a, b):
        await nodes.until(lambda member=member: _home(member, repo) == "b")  # type: ignore[misc]
    assert nodes.rows("SELECT count(*) FROM shards WHERE heir IS NOT NULL") == [(0,)]


def _home(member: Member, repo: Repo) -> str | None:
    home = member.fleet.home(repo)
    return None if home is None else home.name


@pytest_twisted.ensureDeferred
async def test_what_runs_at_the_old_home_ends_before_the_mirror_has_another(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    running: Deferred[None] = Deferred()
    a.work.busy = {shard_at("m", number): running for number in range(SHARDS)}
    b = nodes.start("b")
    await nodes.until(lambda: len(a.owns("m")) < SHARDS and b.owns("e"))
    (number, *_) = set(range(SHARDS)) - a.owns("m")
    repo = Copier(a).repo(number)
    assert a.fleet.is_here(repo)  # what runs needs it
    assert not a.ownership.owns(shard_at("m", number))  # and nothing more begins
    assert not b.fleet.is_here(repo)
    assert _home(a, repo) == "a"
    running.callback(None)
    await nodes.until(lambda: nodes.is_divided(a, b))
    assert b.fleet.is_here(repo)
    assert not a.fleet.is_here(repo)


@pytest_twisted.ensureDeferred
async def test_who_says_that_copies_are_there_while_the_network_is_cut_is_heard_later(
    nodes: Nodes, link: HeldLink, postgres_server: PostgresServer
) -> None:
    (a,) = await nodes.divided("a")
    parts = dict(each.split("=", 1) for each in nodes.conninfo.split()) | {"host": "127.0.0.1", "port": str(link.port)}
    b = nodes.start("b", conninfo=" ".join(f"{key}={value}" for key, value in parts.items()))
    copier = Copier(b)
    await nodes.until(lambda: copier.calls and b.owns("e"))
    link.cut()
    b.fleet.prepared(b.fleet.arriving())
    await nodes.sleep(0.2)
    link.end()
    link.heal()
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_plugin_that_comes_late_and_one_that_fails_are_both_called(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    b = nodes.start("b")

    def fail(arriving: Mapping[int, Node]) -> None:
        raise ValueError("the plugin's own")

    b.fleet.when_arriving(fail)
    await nodes.until(b.fleet.arriving)
    late = Copier(b)
    assert late.calls == [b.fleet.arriving()]
    b.fleet.prepared(b.fleet.arriving())
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_draining_node_keeps_its_mirrors_until_others_have_copies(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    copier, mirrors = Copier(a), b.owns("m")
    await b.fleet.drain("b")
    await nodes.until(lambda: copier.calls and not b.owns("e"))
    assert set(a.fleet.arriving()) == mirrors
    assert b.owns("m") == mirrors
    a.fleet.prepared(mirrors)
    await nodes.until(lambda: nodes.is_divided(a))


@pytest_twisted.ensureDeferred
async def test_what_was_to_come_and_stayed_needs_copies_anew_the_next_time(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    Copier(a)
    mirrors = b.owns("m")
    running: Deferred[None] = Deferred()
    b.work.busy = {shard_at("m", number): running for number in mirrors}
    await b.fleet.drain("b")
    await nodes.until(lambda: set(a.fleet.arriving()) == mirrors)
    a.fleet.prepared(mirrors)
    await nodes.until(lambda: nodes.rows("SELECT count(*) FROM shards WHERE heir IS NOT NULL") == [(len(mirrors),)])
    await b.fleet.drain("b", back=True)
    await nodes.until(lambda: nodes.rows("SELECT count(*) FROM shards WHERE heir IS NOT NULL") == [(0,)])
    running.callback(None)
    b.work.busy = {}
    await nodes.until(lambda: nodes.is_divided(a, b))
    await b.fleet.drain("b")
    await nodes.until(lambda: set(a.fleet.arriving()) == mirrors and not b.owns("e"))
    assert b.owns("m") == mirrors
    a.fleet.prepared(mirrors)
    await nodes.until(lambda: nodes.is_divided(a))


@pytest_twisted.ensureDeferred
async def test_a_shard_that_nobody_has_is_prepared_by_nobody(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    copier, mirrors = Copier(a), b.owns("m")
    await b.stop()
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)))
    await nodes.until(lambda: [node.state for node in a.fleet.nodes()] == ["up", "away"])
    assert copier.calls == []
    assert _home(a, copier.repo(min(mirrors))) == "b"
    a.fleet.prepared(mirrors)
    await a.look()
    assert nodes.rows("SELECT count(*) FROM shards WHERE heir IS NOT NULL") == [(0,)]


@pytest_twisted.ensureDeferred
async def test_the_second_copy_is_at_another_node_and_becomes_the_home(nodes: Nodes) -> None:
    members = {name: nodes.start(name, copies=2, rehome_after=0.5) for name in "abc"}
    await nodes.until(lambda: nodes.is_divided(*members.values()))
    a, b, c = members.values()
    copier, _ = Copier(a), Copier(c)  # which say of nothing that it is there
    repos = [copier.repo(number) for number in b.owns("m")]
    await nodes.until(lambda: {_home(member, repo) for member in (a, c) for repo in repos} == {"b"})
    for member in (a, c):
        await member.look()  # one that gave a shard away knows its owner before it sees it
    copies = {repo: [node.name for node in a.fleet.copies(repo)] for repo in repos}
    assert all(names in (["a"], ["c"]) for names in copies.values())
    assert copies == {repo: [node.name for node in c.fleet.copies(repo)] for repo in repos}
    await b.stop()
    await nodes.until(lambda: a.owns("m") | c.owns("m") == set(range(SHARDS)))
    assert all(members[copies[repo][0]].fleet.is_here(repo) for repo in repos)
