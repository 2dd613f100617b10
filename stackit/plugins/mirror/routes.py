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
from stackit.plugins.mirror.fleet.distant import DistantMirror
from stackit.plugins.mirror.fleet.records import MirrorRecord
from stackit.plugins.mirror.git.access import without_userinfo
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.listing import DEFAULT, MOST, AnyMirror, Listing, page_limit
from stackit.plugins.mirror.state_history import Transition
from stackit.plugins.mirror.sync.status import STATES, State
from stackit.plugins.mirror.sync.worker import MirrorWorker

_NOT_MANAGED = "The repository is not managed."
_FEW = 10
"""Repositories that an error names all of."""

Find = Callable[[Repo], AnyMirror | None]


_PAGE = (
    Parameter("limit", f"Rows of a page, {DEFAULT} if it is not given.", Annotated[int, msgspec.Meta(ge=1, le=MOST)]),
    Parameter("cursor", "Go on behind the page that answered with this as next."),
)


def routes(
    find: Find,
    all_mirrors: Callable[[], Iterable[AnyMirror]],
    history: Callable[[str], Sequence[Transition]],
    clock: Timers,
    node: str | None,
) -> list[Route]:
    """Make the routes. ``find`` returns the mirror of a managed repository, ``all_mirrors`` returns all.

    ``history`` returns the changes of state of a repository by its key, the newest first. ``clock`` is the reactor.
    ``node`` is the name of this node, None without a fleet.
    """
    pages = Listing(all_mirrors, clock)

    def listing(request: AdminRequest) -> Response:
        query = request.query
        if not query:
            return Response(body=Repositories([_status(each, node) for each in all_mirrors()]))
        state = query.get("state")
        if state is not None and state not in STATES:
            return error(400, f"state: expected one of {', '.join(STATES)}")
        try:
            limit = page_limit(query.get("limit"))
        except ValueError as problem:
            return error(400, str(problem))
        found = pages.find(query.get("q", ""), state, limit, query.get("cursor", ""))
        return Response(body=Repositories([_status(each, node) for each in found.mirrors], found.next, found.states))

    def one(request: AdminRequest) -> Response:
        mirror = _mirror_of(request, find)
        return _unmanaged(request, all_mirrors()) if mirror is None else Response(body=_status(mirror, node))

    async def refs(request: AdminRequest) -> Response:
        worker = _mirror_of(request, find)
        if not isinstance(worker, MirrorWorker):
            return _not_here(request, worker, all_mirrors())
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
        worker = _mirror_of(request, find)
        if not isinstance(worker, MirrorWorker):
            return _not_here(request, worker, all_mirrors())
        transitions = history(worker.managed.repo.key)
        return Response(
            body=StateChanges([StateChange(each.state, rfc3339(each.at), each.error) for each in transitions])
        )

    async def sync(request: AdminRequest) -> Response:
        worker = _mirror_of(request, find)
        if not isinstance(worker, MirrorWorker):
            return _not_here(request, worker, all_mirrors())
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
            node="mirror",
            summary="List the refs of a mirror.",
            returns=Refs,
            errors={404: _NOT_MANAGED, 503: "The refs cannot be read now."},
        ),
        Route(
            "GET",
            "{prefix}/repos/{owner}/{name}/history",
            changes_of_state,
            query=(),
            node="mirror",
            summary="List the last changes of the state of a mirror.",
            returns=StateChanges,
            errors={404: _NOT_MANAGED},
        ),
        Route(
            "POST",
            "{prefix}/repos/{owner}/{name}/sync",
            sync,
            query=(Parameter("accept", "Follow the remote also if it deleted most refs.", Literal["deletions"]),),
            node="mirror",
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


def _mirror_of(request: AdminRequest, find: Find) -> AnyMirror | None:
    try:
        return find(Repo.parse(f"{request.args['owner']}/{request.args['name']}"))
    except ValueError:
        return None


def _not_here(request: AdminRequest, mirror: DistantMirror | None, mirrors: Iterable[AnyMirror]) -> Response:
    if mirror is None:
        return _unmanaged(request, mirrors)
    return error(503, mirror.problem or "the mirror moves between two nodes: ask again")


def _unmanaged(request: AdminRequest, mirrors: Iterable[AnyMirror]) -> Response:
    name = f"{request.args['owner']}/{request.args['name']}"[:150]
    managed = sorted(str(each.managed.repo) for each in mirrors)
    named = get_close_matches(name, managed) or (managed if len(managed) <= _FEW else [])
    there = f"; there is {', '.join(named)}" if named else ""
    return error(404, f"{name} is not managed: add it to [[repos]], or by stackit repos add{there}")


def _status(mirror: AnyMirror, node: str | None) -> Repository:
    """Return what is known of a mirror; ``node`` is the name of this node."""
    managed = mirror.managed
    at: str | None
    path: str | None
    if isinstance(mirror, MirrorWorker):
        status = mirror.status
        at, path, state = node, str(mirror.directory), mirror.state
        verified_at, next_at, held = status.verified_at, status.next_at, status.held is not None
    else:
        known = mirror.record or MirrorRecord(node="")
        at, state = None if mirror.home is None else mirror.home.name, mirror.presumed_state
        path = known.path or None if known.node == at else None  # after a move, what is known may be of the home before
        verified_at, next_at, held = known.verified_at, known.next_at, known.held
    return Repository(
        name=str(managed.repo),
        url=without_userinfo(managed.url),
        source=managed.source,
        added_by=managed.added_by or None,
        state=state,
        verified_at=None if verified_at is None else rfc3339(verified_at),
        error=mirror.problem,
        next_at=None if next_at is None else rfc3339(next_at),
        held_deletions=held,
        node=at,
        path=path,
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
