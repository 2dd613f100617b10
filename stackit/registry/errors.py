"""Why the registry does not do what it was asked for."""

from __future__ import annotations

from stackit.api.errors import StackitError


class ConflictError(StackitError):
    """A repository is there already, or is not a person's to change: the text says how it is done."""


class UnknownError(StackitError):
    """There is no such repository."""


class RenamedError(StackitError):
    """A repository got another name while something was about to be written under its old one."""


class NotLeaderError(StackitError):
    """Another node of the fleet changes the registry."""
