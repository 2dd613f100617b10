"""The faults of a webhook at GitHub, each with the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import msgspec

from stackit.github.hooks.found import FoundHook
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import EVERYTHING, WantedHook
from stackit.text.redaction import redacted

FaultKind = Literal[
    "missing",  # there is none that sends here
    "deleted",  # it told of its own deletion
    "inactive",
    "elsewhere",  # it sends to another URL
    "content_type",
    "insecure_ssl",  # GitHub does not check the certificate
    "unsigned",  # it has no secret
    "events",  # it does not tell of an event that a handler wants
    "permissions",  # the App lacks a permission
    "silent",  # nothing came by it where the backstop found pushes
    "unchecked",  # GitHub did not let it be looked at
]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)


class Fault(msgspec.Struct, frozen=True):
    """One fault: ``text`` goes on from "the webhook of octo/widget". ``mend`` is a command, perhaps behind a page."""

    kind: FaultKind
    text: str
    mend: str

    def line(self, target: HookTarget) -> str:
        """Return the fault in one line."""
        return f"{target.label} {self.text}; mend it: {self.mend}"


def command(action: str, target: HookTarget) -> str:
    """Return the command of the shell that does something to a webhook."""
    return f"stackit hook {action} {target.text}"


def missing(target: HookTarget, near: FoundHook | None = None) -> Fault:
    """Return the fault that no webhook sends here. ``near`` is one of another stackit, as it seems."""
    if near is None:
        return Fault("missing", "is not there: GitHub tells stackit of nothing", command("create", target))
    update = f"{command('update', target)} --id {near.id}"
    return Fault(
        "missing",
        f"is not there; the one with the id {near.id} sends to {redacted(near.config.url or '')}",
        f"{command('create', target)}, or, if that one should send here: {update}",
    )


def faults_of(target: HookTarget, found: FoundHook, wanted: WantedHook) -> Iterator[Fault]:
    """Yield the faults of a webhook that is there."""
    config, update = found.config, command("update", target)
    if found.active is False:
        yield Fault("inactive", "is switched off", update)
    if not config.url:
        yield Fault("elsewhere", "has no URL", update)
    elif not wanted.is_right(config.url):
        yield Fault("elsewhere", f"sends to {redacted(config.url)}, and not to {wanted.urls[0]}", update)
    if (config.content_type or "form") != wanted.content_type:
        yield Fault("content_type", f"sends {config.content_type or 'form'}, and not {wanted.content_type}", update)
    if config.is_insecure:
        yield Fault("insecure_ssl", "lets anybody pose as this receiver: GitHub does not check certificates", update)
    if not config.secret:
        yield Fault("unsigned", "has no secret, so that every delivery is refused", command("rotate", target))
    events = sorted(wanted.needed(target.kind) - {*found.events})
    if events and EVERYTHING not in found.events:
        page = f"{found.settings}/permissions, then " if found.settings else ""
        mend = f"{page}{command('check', target)}" if found.settings else update
        yield Fault("events", f"does not tell of {', '.join(events)}, which a handler wants", mend)
    if found.lacking:
        page = f"{found.settings}/permissions" if found.settings else "its page at GitHub"
        yield Fault(
            "permissions",
            f"is of use only in part: the App lacks the permission {', '.join(found.lacking)}",
            f"{page}, then {command('check', target)}",
        )
