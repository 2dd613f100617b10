"""The number of connections of the public and the admin side, by the descriptors that the system allows."""

from __future__ import annotations

import resource

MOST_CONNECTIONS = 4096
MOST_ADMIN_CONNECTIONS = 512
_DESCRIPTORS_WANTED = 16384
_OTHER_DESCRIPTORS = 64


def room_for_connections() -> int:
    """Return how many connections the public side can have. Asks the system for more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _DESCRIPTORS_WANTED if hard == unlimited else min(hard, _DESCRIPTORS_WANTED)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return MOST_CONNECTIONS if soft == unlimited else room_in(soft)


def room_in(descriptors: int) -> int:
    """Return how many connections the public side can have where the process can have so many descriptors.

    As many again may be reading their last response, the admin side has a quarter of that, and the rest is for files
    and children.
    """
    return max(16, min(MOST_CONNECTIONS, (descriptors - _OTHER_DESCRIPTORS) // 3))


def room_for_admin(public: int) -> int:
    """Return how many connections the admin side can have beside ``public`` ones of the public side."""
    return max(8, min(MOST_ADMIN_CONNECTIONS, public // 4))
