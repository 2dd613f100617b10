"""The places for streams."""

from __future__ import annotations

from stackit.live.places import MOST_OF_ADDRESS, MOST_OF_PERSON, Places


def test_an_address_has_so_many() -> None:
    places = Places()
    for number in range(MOST_OF_ADDRESS):
        assert places.full("192.0.2.1", f"person {number}") is None
        places.take("192.0.2.1", f"person {number}")
    assert places.full("192.0.2.1", "somebody else") == "address"
    assert places.full("192.0.2.2", "somebody else") is None
    places.leave("192.0.2.1", "person 0")
    assert places.full("192.0.2.1", "somebody else") is None
    assert places.refused == {"address": 1}


def test_a_person_has_so_many_from_wherever() -> None:
    places = Places()
    for number in range(MOST_OF_PERSON):
        places.take(f"192.0.2.{number}", "hubot (id 5)")
    assert places.full("192.0.2.99", "hubot (id 5)") == "person"
    assert places.full("192.0.2.99", "octocat (id 6)") is None


def test_there_are_so_many_in_all() -> None:
    places = Places(3)
    for number in range(3):
        places.take(f"192.0.2.{number}", f"person {number}")
    assert places.full("192.0.2.9", "person 9") == "all"
    for number in range(3):
        places.leave(f"192.0.2.{number}", f"person {number}")
    assert places.full("192.0.2.9", "person 9") is None
    assert not places._of, "nothing is kept of those who are gone"


def test_strangers_who_may_look_leave_places_for_those_who_are_known() -> None:
    places = Places(8)
    for number in range(6):
        assert places.full(f"192.0.2.{number}", f"192.0.2.{number}", is_known=False) is None
        places.take(f"192.0.2.{number}", f"192.0.2.{number}")
    assert places.full("192.0.2.9", "192.0.2.9", is_known=False) == "all"
    assert places.full("192.0.2.9", "octocat (id 6)") is None
