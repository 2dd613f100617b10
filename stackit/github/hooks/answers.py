"""What the routes of webhooks at GitHub answer."""

from __future__ import annotations

import msgspec

from stackit.api.schema import Timestamp


class ShownFault(msgspec.Struct, frozen=True):
    """Something that is wrong with a webhook, and what mends it."""

    fault: str
    text: str
    mend: str


class ShownHook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it was at the last look. ``problem`` is why it could not be looked at."""

    hook: str
    id: int | None
    url: str | None
    active: bool | None
    events: list[str]
    changing_secret: bool
    problem: str | None
    faults: list[ShownFault]
    looked_at: Timestamp | None


class ShownHooks(msgspec.Struct, frozen=True):
    """The webhooks that were looked at, and where they should send to."""

    hooks: list[ShownHook]
    public_url: str | None


class HookDone(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a webhook. ``secret_file`` is the file of its secret, ``also_valid`` are others that count."""

    hook: str
    done: str
    secret_file: str | msgspec.UnsetType | None = msgspec.UNSET
    also_valid: list[str] | msgspec.UnsetType = msgspec.UNSET


class HookChanged(ShownHook, frozen=True, kw_only=True):
    """What was done to a webhook, and how it is now."""

    done: str
    secret_file: str | None

    @classmethod
    def of(cls, shown: ShownHook, done: str, secret_file: str | None) -> HookChanged:
        """Return the answer for a webhook that was made or mended."""
        return cls(done=done, secret_file=secret_file, **msgspec.structs.asdict(shown))
