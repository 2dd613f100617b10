"""The states of an installation, and the error for one that gives no token."""

from __future__ import annotations

from typing import Literal, get_args

from stackit.api.errors import StackitError
from stackit.api.repos import AccessProblem

State = Literal["active", "suspended", "uninstalled", "no_permission", "unauthorized"]
"""``no_permission``: it does not grant what a token is to have. ``unauthorized``: GitHub refuses the App's own key."""
STATES: tuple[State, ...] = get_args(State)


class AccessError(StackitError):
    """An App has no token for a repository, until somebody changes ``state`` at GitHub or gives the App its key."""

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state: State = state


def access_problem(state: State) -> AccessProblem | None:
    """Return a state as the mirrors of its repositories show it."""
    if state == "active":
        return None
    return "suspended" if state == "suspended" else "no_access"
