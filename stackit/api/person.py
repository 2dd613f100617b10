"""A person who is logged in to the admin side."""

from __future__ import annotations

import msgspec

from stackit.api.admin import Role


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """A person, and what they may do.

    ``id`` is theirs for ever, with whose id it is (``github:5``): a login may be given to somebody else. ``name`` tells
    people who it is (``octocat (id 5)``). ``confirmed_at`` is when their role was last looked up, in seconds since the
    epoch; None where nobody has to.
    """

    id: str
    name: str
    role: Role
    login: str = ""
    confirmed_at: float | None = None
