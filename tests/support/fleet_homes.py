"""Where a fleet has its mirrors in the end: nodes that start at once give them to each other for a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

from stackit.config.fleet import FleetConfig
from stackit.fleet.placement import place
from stackit.testing import RunningFleet

SHARDS = FleetConfig().shards


def home_of(nodes: Iterable[str], repo: str) -> str:
    """Return the node that should have a mirror, of these that keep mirrors."""
    return place(sorted(nodes), SHARDS)[crc32(repo.lower().encode()) % SHARDS]


async def at_home(fleet: RunningFleet, repos: Sequence[str]) -> dict[str, str]:
    """Wait until every node says of each mirror that it is where it stays; return where that is."""
    homes = {repo: home_of(fleet.nodes, repo) for repo in repos}

    async def are_there() -> bool:
        for repo, home in homes.items():
            for node in fleet.nodes.values():
                if (await node.admin("GET", f"{{prefix}}/repos/{repo}")).json()["node"] != home:
                    return False
        return True

    await fleet.until(are_there, "each mirror to be where it stays", within=60)
    return homes
