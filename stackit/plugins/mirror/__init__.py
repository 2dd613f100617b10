"""The mirror plugin: a bare git mirror of every managed repository, fresh to the second."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client.registry import Collector
from twisted.application.service import IService

from stackit import (
    App,
    Command,
    Event,
    MirrorInfo,
    Occurrence,
    Page,
    Panel,
    Push,
    Repo,
    ReposChange,
    Route,
    StackitError,
    hookimpl,
    on,
)
from stackit.plugins.mirror.commands import COMMANDS
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.git.version import version_problem
from stackit.plugins.mirror.listing import AnyMirror
from stackit.plugins.mirror.metrics import MirrorMetrics
from stackit.plugins.mirror.mirrors import Mirrors
from stackit.plugins.mirror.pages.pages import mirror_pages
from stackit.plugins.mirror.repository.disk_space import DiskReserve, free_bytes
from stackit.plugins.mirror.routes import routes
from stackit.plugins.mirror.schedule.maintenance import MaintenanceSchedule
from stackit.plugins.mirror.service import MirrorService
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.state_history import COLLECTION, StateHistory, Transition
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.remote_identity import confirm_by_push
from stackit.plugins.mirror.sync.status import STATES, State
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.plugins.mirror.sync.worker import MirrorWorker

__all__ = ["Mirror", "MirrorSettings"]

MOST_UNMANAGED = 10_000
"""Repositories for which a push without a mirror is reported, once each: an organization's webhook has many."""


class Mirror:
    """The plugin: hands pushes, the backstop and admin requests to the workers of the mirrors.

    ``free(directory)`` returns the bytes that are free on the disk of the mirrors.
    """

    Settings = MirrorSettings

    def __init__(
        self,
        settings: MirrorSettings = MirrorSettings(),  # noqa: B008 - frozen
        *,
        tunables: Tunables = Tunables(),  # noqa: B008 - frozen
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._settings = settings
        self._tunables = tunables
        self._free = free
        self._app: App | None = None
        self._mirrors: Mirrors | None = None
        self._disk: DiskReserve | None = None
        self._unmanaged: set[str] = set()
        self._metrics = MirrorMetrics()
        self._history: StateHistory | None = None

    @hookimpl
    def stackit_service(self, app: App) -> IService:
        """Make the workers. Raises StackitError if git is missing or too old, or the folder cannot be made."""
        program = shutil.which("git")
        if program is None:
            raise StackitError("the program git is missing: install it")
        unfit = version_problem(program)
        if unfit is not None:
            raise StackitError(unfit)
        directory = app.state_dir / "mirrors"
        home = directory / ".home"
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StackitError(f"the disk is full: {directory} cannot be made; make room there") from None
            raise StackitError(f"{directory} cannot be made: {problem.strerror}; let stackit write there") from None
        git = Git(app.reactor, home, app.redact, now=app.now, most_memory=self._settings.git_memory)
        slots = FetchSlots(self._settings.concurrency)
        self._disk = disk = DiskReserve(app.reactor, directory, self._settings.reserve, free=self._free)
        self._mirrors = mirrors = Mirrors(
            app, directory, git, slots=slots, disk=disk, settings=self._settings, tunables=self._tunables
        )
        self._app = app
        self._metrics.repos.begin(app, self._state)
        self._metrics.copies.begin(mirrors.residence)
        self._history = history = StateHistory(app.reactor, app.fleet_now, app.keep, leads=app.nodes.leads)
        history.follow(app.watch, app.kept)
        try:
            documents = app.documents(COLLECTION)
        except StackitError:  # a full disk: the mirrors matter more than what they were
            documents = {}
        history.load(documents, (each.repo.key for each in app.repos))
        app.repos.on_change(self._follow)
        maintenance = MaintenanceSchedule(app.reactor, mirrors.on_this_disk, disk, slots)
        return MirrorService(app, directory, mirrors, maintenance, history)  # type: ignore[return-value]  # zope: it implements it

    @hookimpl
    def stackit_routes(self, app: App) -> Sequence[Route]:
        return routes(self._mirror, self._all_mirrors, self._changes_of_state, app.reactor, app.nodes.here or None)

    @hookimpl
    def stackit_pages(self, app: App) -> Sequence[Page | Panel]:  # noqa: ARG002 - the hook's
        return mirror_pages()

    @hookimpl
    def stackit_mirror(self, repo: Repo) -> MirrorInfo | None:
        return None if self._mirrors is None else self._mirrors.info(self._key(repo))

    @hookimpl
    def stackit_mirror_copy(self, repo: Repo) -> MirrorInfo | None:
        return None if self._mirrors is None else self._mirrors.on_disk(self._key(repo))

    @hookimpl
    def stackit_reload(self, settings: MirrorSettings) -> None:
        self._settings = settings
        if self._mirrors is not None:
            self._mirrors.change_settings(settings)

    @hookimpl
    def stackit_metrics(self) -> Sequence[Collector]:
        return self._metrics.collectors()

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._metrics.observe(occurrence)
        if occurrence.name == "synced" and occurrence.repo is not None and occurrence.state in STATES:
            self._note_state(occurrence.repo, occurrence.state, occurrence.error)
        if occurrence.name in ("synced", "refs_changed") and occurrence.repo is not None:
            self._tell_nodes(self._key(occurrence.repo), moved=occurrence.name == "refs_changed")

    @hookimpl
    def stackit_commands(self) -> Sequence[Command]:
        return COMMANDS

    @hookimpl
    def stackit_expect(self, event: Event) -> None:
        """Start to fetch a push while the journal writes it: the remote takes longer than the disk."""
        if self._app is None or self._mirrors is None or not isinstance(event, Push):
            return
        managed = self._app.repos.of(event)
        pushes = None if managed is None else self._mirrors.pushes(managed.repo.key)
        if managed is None or pushes is None or event.repo is None:
            return
        confirm_by_push(self._app, managed, event)
        pushes.expect(event)

    # A fetch is bounded by the mirror itself, and a push of one repository must not wait for another's.
    @on("push", timeout=0, concurrency=1024, needs_mirror=True)
    def push(self, event: Push) -> Awaitable[None] | None:
        """Fetch a push; done when its commit is visible in the mirror, or superseded."""
        if self._app is None or self._mirrors is None or event.repo is None:
            return None
        managed = self._app.repos.of(event)
        if managed is not None:
            confirm_by_push(self._app, managed, event)  # another node may have received it
            pushes = self._mirrors.pushes(managed.repo.key)
            return self._mirrors.forward(event) if pushes is None else pushes.handle(event)
        key = event.repo.key
        if key not in self._unmanaged and len(self._unmanaged) < MOST_UNMANAGED:
            self._unmanaged.add(key)
            self._app.observe(Occurrence(name="unmanaged", repo=event.repo, delivery=event.delivery, id=event.id))
        return None

    @hookimpl(needs_mirror=True)
    async def stackit_backstop(self) -> None:
        """Compare every managed repository with its remote."""
        if self._mirrors is not None:
            await self._mirrors.schedule.run()

    @hookimpl
    def stackit_health(self) -> str | None:
        """Return a warning if the disk is short."""
        if self._disk is None or not self._mirrors or not self._disk.is_short:
            return None
        return f"less than {self._settings.reserve >> 20} MiB are free on the disk of the mirrors: nothing is fetched"

    def _note_state(self, repo: Repo, state: State, error: str | None) -> None:
        managed = None if self._app is None else self._app.repos.get(repo)
        if self._history is not None and managed is not None:
            self._history.note(managed.repo.key, state, error)

    def _changes_of_state(self, key: str) -> Sequence[Transition]:
        return () if self._history is None else self._history.of(key)

    def _state(self, repo: Repo) -> tuple[State, float]:
        """Return the state of a mirror that is here, and when it was verified, 0.0 for never."""
        worker = self._find(repo)
        return ("cloning", 0.0) if worker is None else (worker.presumed_state, worker.status.verified_at or 0.0)

    def _tell_nodes(self, key: str, *, moved: bool) -> None:
        """Have the other nodes of a fleet told of a mirror that is here."""
        fleet = None if self._mirrors is None else self._mirrors.residence
        if fleet is not None:
            (fleet.states.moved if moved else fleet.states.note)(key)

    def _all_mirrors(self) -> Iterable[AnyMirror]:
        if self._mirrors is None:
            return ()
        return self._mirrors if self._mirrors.residence is None else self._mirrors.everywhere()

    def _mirror(self, repo: Repo) -> AnyMirror | None:
        return None if self._mirrors is None else self._mirrors.anywhere(self._key(repo))

    def _find(self, repo: Repo) -> MirrorWorker | None:
        return self._mirrors.worker(self._key(repo)) if self._mirrors is not None else None

    def _key(self, repo: Repo) -> str:
        """Return the present key of a repository, which may be called by a former name."""
        managed = None if self._app is None else self._app.repos.get(repo)
        return repo.key if managed is None else managed.repo.key

    def _follow(self, change: ReposChange) -> None:
        """Tell of a push for a repository that comes or goes once more, if it is not managed then."""
        moved = [(old.repo.key, new.repo.key) for old, new in change.moved]
        self._metrics.repos.move(moved)
        if self._history is not None:
            self._history.move(moved)
            self._history.forget(managed.repo.key for managed in change.removed)
        self._unmanaged -= {managed.repo.key for managed in (*change.added, *change.removed)}
        self._unmanaged -= {managed.repo.key for pair in change.moved for managed in pair}
