"""The admin routes of the mirrors: their states, and a sync by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec

from stackit import (
    AdminRequest,
    Parameter,
    RefChange,
    Repo,
    Response,
    Route,
    StackitError,
    Timers,
    error,
    ref_bytes,
    rfc3339,
)
from stackit.plugins.mirror.answers import (
    Change,
    Changes,
    Ref,
    Refs,
    Repositories,
    Repository,
    StateChange,
    StateChanges,
)
from stackit.plugins.mirror.git.access import without_userinfo
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.listing import DEFAULT, MOST, Listing, page_limit
from stackit.plugins.mirror.state_history import Transition
from stackit.plugins.mirror.sync.status import STATES, State
from stackit.plugins.mirror.sync.worker import MirrorWorker

_NOT_MANAGED = "The repository is not managed."
_FEW = 10
"""Repositories that an error names all of."""

Find = Callable[[Repo], MirrorWorker | None]


_PAGE = (
    Parameter("limit", f"Rows of a page, {DEFAULT} if it is not given.", Annotated[int, msgspec.Meta(ge=1, le=MOST)]),
    Parameter("cursor", "Go on behind the page that answered with this as next."),
)


def routes(
    find: Find,
    all_workers: Callable[[], Iterable[MirrorWorker]],
    history: Callable[[str], Sequence[Transition]],
    clock: Timers,
) -> list[Route]:
    """Make the routes. ``find`` returns the worker of a repository, ``all_workers`` returns all.

    ``history`` returns the changes of state of a repository by its key, the newest first. ``clock`` is the reactor.
    """
    pages = Listing(all_workers, clock)

    def listing(request: AdminRequest) -> Response:
        query = request.query
        if not query:
            return Response(body=Repositories([_status(worker) for worker in all_workers()]))
        state = query.get("state")
        if state is not None and state not in STATES:
            return error(400, f"state: expected one of {', '.join(STATES)}")
        try:
            limit = page_limit(query.get("limit"))
        except ValueError as problem:
            return error(400, str(problem))
        found = pages.find(query.get("q", ""), state, limit, query.get("cursor", ""))
        return Response(body=Repositories([_status(each) for each in found.workers], found.next, found.states))

    def one(request: AdminRequest) -> Response:
        worker = _worker_of(request, find)
        return _unmanaged(request, all_workers()) if worker is None else Response(body=_status(worker))

    async def refs(request: AdminRequest) -> Response:
        worker = _worker_of(request, find)
        if worker is None:
            return _unmanaged(request, all_workers())
        query = request.query
        try:
            limit = page_limit(query.get("limit"))
            after = _decode_cursor(query.get("cursor", ""))
        except ValueError as problem:
            return error(400, str(problem))
        try:
            snapshot = await worker.all_refs()
        except (StackitError, OSError) as problem:
            return error(503, f"the refs cannot be read: {problem}")
        text = query.get("q", "").encode("utf-8", "surrogateescape")
        found, total, last = snapshot.page(after, limit, text)
        head = worker.head
        shown = [Ref(_shown_ref(name), oid) for name, oid in found]
        return Response(
            body=Refs(
                refs=shown,
                total=total,
                head=None if head is None else _shown_ref(ref_bytes(head)),
                next=None if last is None else last.hex(),
            )
        )

    def changes_of_state(request: AdminRequest) -> Response:
        worker = _worker_of(request, find)
        if worker is None:
            return _unmanaged(request, all_workers())
        transitions = history(worker.managed.repo.key)
        return Response(
            body=StateChanges([StateChange(each.state, rfc3339(each.at), each.error) for each in transitions])
        )

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
            query=(
                Parameter("q", "Only repositories with this text in their name."),
                Parameter("state", "Only those whose mirror is in this state.", State),
                *_PAGE,
            ),
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
            "GET",
            "{prefix}/repos/{owner}/{name}/refs",
            refs,
            query=(Parameter("q", "Only refs with this text in their name."), *_PAGE),
            summary="List the refs of a mirror.",
            returns=Refs,
            errors={404: _NOT_MANAGED, 503: "The refs cannot be read now."},
        ),
        Route(
            "GET",
            "{prefix}/repos/{owner}/{name}/history",
            changes_of_state,
            query=(),
            summary="List the last changes of the state of a mirror.",
            returns=StateChanges,
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
        held_deletions=status.held is not None,
    )


def _change(change: RefChange) -> Change:
    ref = _shown_ref(ref_bytes(change.ref))
    return Change(ref=ref, old=change.old, new=change.new, kind=change.kind, forced=change.forced)


def _shown_ref(ref: bytes) -> str:
    """Return a ref as JSON can hold it: bytes that are not UTF-8 are written as \\xNN."""
    return ref.decode("utf-8", "backslashreplace")


def _decode_cursor(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("cursor: expected the next of the page before") from None
