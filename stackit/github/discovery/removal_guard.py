"""The guard against mass disappearance: a listing that lacks many repositories by mistake takes no mirror away."""

from __future__ import annotations

from stackit.config.discover import DiscoveryConfig


def objection(settings: DiscoveryConfig, *, known: int, vanished: int, listed: int, source: str) -> str | None:
    """Return why repositories may not be removed without a person's word, None if they may.

    ``known`` are mirrored now because of the listing of ``source``; ``vanished`` of them are to be mirrored no more;
    the listing shows ``listed`` repositories in all. An empty listing never removes anything.
    """
    if not vanished:
        return None
    many = known >= settings.min_repos and vanished > settings.max_removals * known
    if listed and not many:
        return None
    what = "all" if vanished == known else "so many"
    return (
        f"{vanished} of {known} repositories are gone from the listing of {source}, or left out by a rule now: their "
        f"mirrors stay, as {what} at once may be a mistake; if it is none: stackit discover --accept-removals"
    )
