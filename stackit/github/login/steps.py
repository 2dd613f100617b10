"""How a login by a code stands: what the node where it began tells the others."""

from __future__ import annotations

import msgspec

from stackit.github.login.oauth import GitHubUser


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """A login whose code is not entered yet. ``interval``: seconds until the next question."""

    interval: float
    user_code: str
    verification_uri: str


class Entered(msgspec.Struct, frozen=True, kw_only=True, tag="entered"):
    """The end of a login: the person who entered the code, and the path to go to. It is told once.

    ``provider`` is the GitHub that says who it is, as ``identity.provider`` names it: the id is one of that alone.
    """

    user: GitHubUser
    following: str
    provider: str = ""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The end of a login by which nobody comes in, with the status for it."""

    problem: str
    status: int


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """No login: none of this key, or its time is over."""


class LoginQuestion(msgspec.Struct, frozen=True):
    """The question of a node how a login stands; ``digest`` is that of its key, which itself stays where it came."""

    digest: str


Step = Waiting | Entered | Failed | Unknown
"""How a login stands."""
