"""The numbers of subscribers: one each in the whole fleet, also where several nodes meet one for the first time."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.opening import prepare
from stackit.journal.postgres.subscribers import Subscribers


def test_nodes_that_meet_new_subscribers_at_once_give_each_one_number(postgres: str) -> None:
    server = Server(postgres)
    prepare(server, 16)
    found: list[dict[str, int]] = []

    def meet(node: int) -> None:
        subscribers = Subscribers()
        with closing(server.connect("test")) as connection:
            for turn in range(10):
                subscribers.numbers(connection, [f"all:{turn}", f"{node}:{turn}"])
            found.append(dict(subscribers.numbers(connection, [f"{other}:9" for other in range(4)])))

    threads = [threading.Thread(target=meet, args=(node,)) for node in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = max(found, key=len)
    assert len(known) == len(set(known.values())) == 50
    assert all(numbers.items() <= known.items() for numbers in found)
    with closing(server.connect("test")) as connection:
        assert Subscribers().key(connection, known["all:3"]) == "all:3"


def test_more_subscribers_than_there_are_numbers_are_refused_with_the_way_out(postgres: str) -> None:
    server = Server(postgres)
    prepare(server, 16)
    with closing(server.connect("test")) as connection:
        connection.execute("INSERT INTO subscribers (no, key) SELECT n, 'old:' || n FROM generate_series(1, 4094) AS n")
        assert Subscribers().numbers(connection, ["last"])["last"] == 4095
        with pytest.raises(JournalError, match=r"has had 4095 subscribers.* \(stackit journal copy\)"):
            Subscribers().numbers(connection, ["one more"])
        assert Subscribers().numbers(connection, ["old:7"])["old:7"] == 7
