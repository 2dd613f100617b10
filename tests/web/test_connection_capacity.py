"""Room for connections."""

from __future__ import annotations

from stackit.web.connection_capacity import room_for_admin, room_for_connections, room_in


def test_there_is_room_for_some_connections_whatever_the_system_allows() -> None:
    assert 16 <= room_for_connections() <= 4096


def test_few_descriptors_are_shared_by_both_sides_and_the_rest() -> None:
    for descriptors in (256, 1024, 4096):
        public = room_in(descriptors)
        assert 2 * (public + room_for_admin(public)) < descriptors
