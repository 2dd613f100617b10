"""The key of a fleet: made with its tables, the same for all nodes, and another one for another database."""

from __future__ import annotations

from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.opening import node_key, prepare
from stackit.peers.claims import Keys


def test_every_node_of_a_database_has_the_same_key_and_no_other_has_it(postgres: str) -> None:
    server = Server(postgres)
    prepare(server, 4)
    first = node_key(server)
    prepare(server, 4)
    assert node_key(server) == first
    assert len(first) == 32
    assert len(set(first)) > 8
    Keys(first)
