"""The one who asks, as far as the admin side knows."""

from __future__ import annotations

import msgspec

from stackit.api.admin import Role


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """The one who asks. ``by`` is the name for people.

    ``is_known`` by a token or a session. ``csrf`` is what forms of the session send back, ``session`` its key ("" where
    there is none).
    """

    by: str
    role: Role
    is_known: bool = False
    csrf: str = ""
    session: str = ""
