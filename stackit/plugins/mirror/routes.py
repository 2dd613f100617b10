"""The admin routes of the mirrors: their states, and a sync by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Literal

from stackit import AdminRequest, Parameter, RefChange, Repo, Response, Route, StackitError, error, ref_bytes, rfc3339
from stackit.plugins.mirror.answers import Change, Changes, Repositories, Repository
from stackit.plugins.mirror.git.access import without_userinfo
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.sync.worker import MirrorWorker

_NOT_MANAGED = "The repository is not managed."
_FEW = 10
"""Repositories that an error names all of."""

Find = Callable[[Repo], MirrorWorker | None]


def routes(find: Find, all_workers: Callable[[], Iterable[MirrorWorker]]) -> list[Route]:
    """Make the routes. ``find`` returns the worker of a repository, ``all_workers`` returns all."""

    def listing(_: AdminRequest) -> Response:
        return Response(body=Repositories([_status(worker) for worker in all_workers()]))

    def one(request: AdminRequest) -> Response:
        worker = _worker_of(request, find)
        return _unmanaged(request, all_workers()) if worker is None else Response(body=_status(worker))

    async def sync(request: AdminRequest) -> Response:
        worker = _worker_of(request, find)
        if worker is None:
            return _unmanaged(request, all_workers())
        accept = request.query.get("accept")
        if accept not in (None, "deletions"):
            return error(400, "accept: expected deletions, or nothing")
        try:
            done = await worker.sync("manual", accept=accept is not None)
        except GitError as problem:
            return error(502, str(problem))
        except StackitError as problem:
            return error(503, str(problem))
        if done.unequal is not None:
            return error(409, done.unequal)
        return Response(body=Changes([_change(change) for change in done.changes]))

    return [
        Route(
            "GET",
            "{prefix}/repos",
            listing,
            query=(),
            summary="List the repositories, and the state of their mirrors.",
            returns=Repositories,
        ),
        Route(
            "GET",
            "{prefix}/repos/{owner}/{name}",
            one,
            query=(),
            summary="Show a repository, and the state of its mirror.",
            returns=Repository,
            errors={404: _NOT_MANAGED},
        ),
        Route(
            "POST",
            "{prefix}/repos/{owner}/{name}/sync",
            sync,
            query=(Parameter("accept", "Follow the remote also if it deleted most refs.", Literal["deletions"]),),
            summary="Bring a mirror in step with its remote, and wait for the end.",
            returns=Changes,
            errors={
                404: _NOT_MANAGED,
                409: "The mirror is not equal to its remote: deletions wait for a person, or it cannot hold some refs.",
                502: "git failed.",
                503: "The remote was not asked: stackit stops, the disk is full, or there is no token.",
            },
        ),
    ]


def _worker_of(request: AdminRequest, find: Find) -> MirrorWorker | None:
    try:
        return find(Repo.parse(f"{request.args['owner']}/{request.args['name']}"))
    except ValueError:
        return None


def _unmanaged(request: AdminRequest, workers: Iterable[MirrorWorker]) -> Response:
    name = f"{request.args['owner']}/{request.args['name']}"[:150]
    managed = sorted(str(each.managed.repo) for each in workers)
    named = get_close_matches(name, managed) or (managed if len(managed) <= _FEW else [])
    there = f"; there is {', '.join(named)}" if named else ""
    return error(404, f"{name} is not managed: add it to [[repos]], or by stackit repos add{there}")


def _status(worker: MirrorWorker) -> Repository:
    status = worker.status
    error = status.error or status.unequal
    if error is None and worker.state in ("suspended", "no_access"):  # known before a round has met it
        app = worker.managed.app
        giver = "whoever makes its tokens" if app is None else f"App {app}"
        error = f"{giver} has no token for it now: stackit status says why"
    if status.since is not None:
        error = f"{error} (since {rfc3339(status.since)})"
    return Repository(
        name=str(worker.managed.repo),
        url=without_userinfo(worker.managed.url),
        source=worker.managed.source,
        added_by=worker.managed.added_by or None,
        state=worker.state,
        verified_at=None if status.verified_at is None else rfc3339(status.verified_at),
        error=error,
        next_at=None if status.next_at is None else rfc3339(status.next_at),
    )


def _change(change: RefChange) -> Change:
    # JSON cannot hold bytes that are not UTF-8; they are written as \xNN.
    ref = ref_bytes(change.ref).decode("utf-8", "backslashreplace")
    return Change(ref=ref, old=change.old, new=change.new, kind=change.kind, forced=change.forced)
