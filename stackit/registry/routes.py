"""The admin routes by which people add and remove repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import ConfigError, JournalError, StackitError
from stackit.api.events import Repo
from stackit.api.nodes import Alone, Nodes
from stackit.api.repos import ManagedRepo, RepoSource
from stackit.api.schema import Timestamp
from stackit.registry.changes_seen import ChangesSeen
from stackit.registry.errors import ConflictError, UnknownError
from stackit.registry.registry import Registry
from stackit.text.times import rfc3339

Requested = Callable[[str, str | None], tuple[Repo, str]]
"""The repository and the URL that a person asks for; raises ConfigError for what the configuration would refuse."""


class NewRepository(msgspec.Struct, forbid_unknown_fields=True):
    """A repository to mirror: ``owner/name``, and its URL where it is not on GitHub."""

    name: str
    url: str | None = None


class AddedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that is mirrored from now on, and who added it when."""

    name: str
    url: str
    source: RepoSource
    added_by: str
    added_at: Timestamp | None


class RemovedRepository(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository that is mirrored no more, and where its mirror stays; null if there is none.

    ``node`` is the node of a fleet that has the mirror. Its place is known there alone: elsewhere ``mirror`` is null.
    """

    name: str
    mirror: str | None
    node: str | None = None


def registry_routes(
    registry: Registry,
    requested: Requested,
    mirror: Callable[[Repo], Path | None],
    nodes: Nodes = Alone(),  # noqa: B008 - it has no state
) -> list[Route]:
    """Return ``POST {prefix}/repos`` and ``DELETE {prefix}/repos/{owner}/{name}``.

    ``mirror`` returns where the mirror of a repository lies on this node; None where there is none. ``nodes`` are those
    of the fleet.
    """

    async def add(request: AdminRequest) -> Response:
        try:
            wanted = msgspec.json.decode(request.body, type=NewRepository)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            return error(400, f'expected {{"name": "octo/widget"}}, and perhaps a url: {problem}')
        try:
            repo, url = requested(wanted.name, wanted.url)
        except ConfigError as problem:
            return error(400, str(problem))
        try:
            managed = await registry.add(repo, url, request.by)
        except StackitError as problem:
            return _refused(problem)
        return Response(status=201, body=_shown(registry, managed))

    async def remove(request: AdminRequest) -> Response:
        name = f"{request.args['owner']}/{request.args['name']}"
        try:
            repo = Repo.parse(name)
        except ValueError as problem:
            return error(404, str(problem))
        managed = registry.repos.get(repo)
        path = None if managed is None else mirror(managed.repo)
        home = None if managed is None else nodes.home(managed.repo)
        try:
            gone = await registry.remove(repo, request.by)
        except StackitError as problem:
            return _refused(problem)
        is_here = home is None or home.name == nodes.here
        kept = None if path is None or not is_here else str(path)
        return Response(body=RemovedRepository(str(gone.repo), kept, None if home is None else home.name or None))

    seen = ChangesSeen(registry.repos)
    return [
        Route(
            "POST",
            "{prefix}/repos",
            add,
            query=(),
            node="leader",
            forwarded=seen.added,
            summary="Add a repository, which is mirrored from now on.",
            body=NewRepository,
            returns=AddedRepository,
            status=201,
            errors={409: "It is mirrored already."},
        ),
        Route(
            "DELETE",
            "{prefix}/repos/{owner}/{name}",
            remove,
            query=(),
            node="leader",
            forwarded=seen.removed,
            summary="Have a repository that a person added mirrored no more.",
            returns=RemovedRepository,
            errors={404: "It is not mirrored.", 409: "It is in the configuration, or was discovered."},
        ),
    ]


def _refused(problem: StackitError) -> Response:
    if isinstance(problem, ConflictError):
        return error(409, str(problem))
    if isinstance(problem, UnknownError):
        return error(404, str(problem))
    if isinstance(problem, JournalError):
        return unavailable(problem)
    return error(503, str(problem))


def _shown(registry: Registry, managed: ManagedRepo) -> AddedRepository:
    record = registry.record(managed)
    at = None if record is None else rfc3339(record.added_at)
    return AddedRepository(
        name=str(managed.repo), url=managed.url, source=managed.source, added_by=managed.added_by, added_at=at
    )
