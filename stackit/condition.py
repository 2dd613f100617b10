"""The condition of the running stackit: readings for metrics and the status, and what a stop waits for."""

from __future__ import annotations

from collections.abc import Sequence

from stackit.api.vitals import Vitals
from stackit.bus.backstop import Backstop
from stackit.bus.bus import Bus
from stackit.dispatch.dispatch import Dispatch
from stackit.http.server.site import BoundedSite
from stackit.journal import JournalProtocol
from stackit.runtime.heartbeat import Heartbeat
from stackit.runtime.storage import Storage
from stackit.web.public import PublicSite


def vitals(heartbeat: Heartbeat, journal: JournalProtocol, storage: Storage, public: PublicSite) -> Vitals:
    """Return the readings of now."""
    sizes = storage.sizes
    return Vitals(
        stuck=heartbeat.stuck(),
        journal_problems=journal.problems(),
        file_sizes=sizes.files,
        disk_free=sizes.disk_free,
        disk_size=sizes.disk_size,
        secrets={
            (forge, label): valid
            for forge, webhook in public.webhooks.items()
            for label, valid in webhook.known_secrets().items()
        },
    )


async def dead_letters(bus: Bus, journal: JournalProtocol) -> dict[str, int]:
    """Return the number of dead letters by the name of the subscriber."""
    return {bus.display(key): count for key, count in (await journal.dead()).items()}


def in_hand(dispatch: Dispatch, backstop: Backstop, sites: Sequence[BoundedSite]) -> list[str]:
    """Return what a stop waits for, in words."""
    named = [f"{subscriber} ({count} in hand)" for subscriber, count in dispatch.in_hand().items()]
    named += [f"the backstop's round of {plugin}" for plugin in backstop.rounds()]
    requests = sum(site.count_requests() for site in sites)
    return [*named, f"requests ({requests})"] if requests else named
