"""The membership of this process in its fleet: the lease, and what follows from each look at the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError, StackitError
from stackit.api.reactor import Reactor
from stackit.fleet import questions
from stackit.fleet.clock import FleetClock
from stackit.fleet.holdings import Holdings
from stackit.fleet.homes import Homes
from stackit.fleet.lease import Lease
from stackit.fleet.plan import Planner
from stackit.fleet.questions import Candidate, Look
from stackit.fleet.session import Link, Session
from stackit.fleet.standstill import BusyHandler, Standstill
from stackit.fleet.view import Member, View, drain_warning
from stackit.journal import WorkListener
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.ownership import Ownership, row_of
from stackit.text.units import counted

_log = Logger(namespace="stackit")
_T = TypeVar("_T")

_SILENT = 0.6
"""The part of the lease for which it waits for a server that is silent."""
_BEATS = 5
"""Beats in a lease."""
_LONGEST_PAUSE = 1.0
"""Seconds between two beats, at most."""
_RETRY = 0.2
"""Seconds until the next beat where one failed."""
_OVERDUE = 1.0
"""Seconds that an answer may take before it is a problem."""


class Fleet(Homes, Service):
    """A node of a fleet: from ``startService`` on it takes its part of the work, and ``leave`` gives it away.

    Start it when the queues are open and the plugins' services run: shards are gained at once. It writes ``ownership``,
    in the reactor's thread, before it tells the listeners, and sets ``clock`` with each beat. ``notice`` takes lines
    for people. ``entered`` is called when it has become a member, before it owns anything; ``reconnected`` when there
    is another connection, to another server perhaps. ``rehome_after`` and ``copies`` are those of ``Planner``.
    """

    def __init__(
        self,
        server: Server,
        candidate: Candidate,
        ownership: Ownership,
        *,
        clock: FleetClock,
        reactor: Reactor,
        rehome_after: float,
        copies: int,
        notice: Callable[[str], object],
        entered: Callable[[], object],
        reconnected: Callable[[], object],
    ) -> None:
        planner = Planner(shards=ownership.shards, rehome_after=rehome_after, copies=copies)
        Homes.__init__(self, candidate.name, ownership, planner)
        self.clock = clock
        self._candidate = candidate
        self._reactor = reactor
        self._notice = notice
        self._entered = entered
        self._lease = Lease(candidate.lease, clock=clock.seconds, reactor=reactor, over=self._stop_by_itself)
        self._standstill = Standstill(candidate.name, candidate.lease, clock.seconds)
        self._session = Session(
            server,
            reactor=reactor,
            seconds=clock.seconds,
            bound=candidate.lease * _SILENT,
            notified=self.look_now,
            every=self._standstill.every,
            guard=self._standstill.look,
            guarded=self._gave_up,
            reconnected=reconnected,
        )
        self._holdings = Holdings(ownership, self.look_now)
        self._me: int | None = None
        self._last = 0  # the latest incarnation that was made, though it may not have entered
        self._stamp = ""  # of the shards, as the last look found them
        ownership.is_in_time = self._lease.holds
        self._problem: str | None = "this node has not entered the fleet yet"
        self._pausing: Deferred[None] | None = None
        self._is_due = False
        self._leaving: Deferred[None] | None = None
        self._is_taken_out = False
        self._living: Deferred[None] = succeed(None)

    @property
    def incarnation(self) -> int | None:
        """Return the number of this membership; None while there is none."""
        return self._me

    def lease_left(self) -> float:
        """Return the seconds until this node stops by itself, unless a beat is answered; 0 outside the fleet."""
        return self._lease.left()

    def silent_for(self) -> float:
        """Return the seconds since a beat was sent that the database answered; infinity outside the fleet."""
        return self._lease.unanswered_for()

    def problems(self) -> list[str]:
        """Return what is wrong with the membership, one line each."""
        if self._problem is None and self._me is not None and self.silent_for() > self._pause_of_beats() + _OVERDUE:
            return [f"the database of the fleet has not answered for {counted(round(self.silent_for()), 'second')}"]
        return [] if self._problem is None else [self._problem]

    def listen(self, listener: WorkListener) -> None:
        """Tell one who hands on the work of shards that are gained and lost, and have it drain what is given away."""
        self._holdings.listen(listener)

    def watch_over(self, at_work: Callable[[], BusyHandler | None]) -> None:
        """Give up an event whose handler holds the reactor up for the lease.

        ``at_work`` returns the handler that the reactor's thread is in; it is called in another thread.
        """
        self._standstill.at_work = at_work

    def _gave_up(self, busy: BusyHandler | None) -> None:
        if busy is not None:
            self._notice(
                f"{busy.name} held this node up for its lease of {self._lease.seconds:g} s: its event {busy.event} "
                "is a dead letter now, so that no other node is held up; a function that waits needs thread=True"
            )

    async def round(self, name: str, interval: float) -> bool:
        """Begin what is done once in an interval; False where it is not yet time, or the database does not answer."""
        me = self._me
        if me is None:
            return False
        try:
            return await self._session.ask(partial(questions.begin_round, me=me, name=name, interval=interval))
        except JournalError:
            return False

    def ask(self, question: Callable[[Link], _T]) -> Deferred[_T]:
        """Return a Deferred of what ``question`` returns, called in the session's thread with its connection.

        Fails with JournalError where the database does not answer.
        """
        return self._session.ask(question)

    async def drain(self, name: str, *, back: bool = False) -> Sequence[str]:
        """Have a node give its work and its mirrors away, and take no more; with ``back``, take its part again.

        Returns when it is told so: the roles with which it goes on all the same, since no other node is up that has
        them. Raises StackitError where no such node is at work, and JournalError.
        """
        members = await self._session.ask(partial(questions.drain, name=name, back=back))
        if not members:
            names = ", ".join(node.name for node in self.nodes() if node.state != "away")
            raise StackitError(f"no node {name} is at work: at work are {names or 'none'}")
        return () if back else View(members).alone_with(name)

    def is_draining(self) -> bool:
        """Return whether this node is to give its work away, as its last look at the fleet showed it."""
        return _is_draining(self.view.by_name.get(self.here))

    # -- its life -----------------------------------------------------------------

    def startService(self) -> None:
        Service.startService(self)
        self._session.start()
        self._living = Deferred.fromCoroutine(self._stay())

    async def leave(self) -> None:
        """Give away all work, each shard when what runs in it has ended. Cancel it to wait no longer.

        This process goes on taking deliveries, which others handle. ``stopService`` ends the membership.
        """
        if self._leaving is None:
            self._leaving = Deferred()
            self._is_taken_out = self.is_draining()
            self.look_now()
        if self.running and self._me is not None:
            await self._leaving

    def stopService(self) -> Deferred[None]:
        """End the membership: what was not given away is lost at once, and free for others."""
        if not self.running:
            return succeed(None)
        Service.stopService(self)
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        impatient = self._reactor.callLater(self._lease.seconds * _SILENT, self._session.cut)
        self.look_now()
        await self._living
        me = self._me
        self._lose_everything()
        if me is not None and impatient.active():
            with suppress(JournalError):  # the lease ends by itself
                taken_out = self.here if self._is_taken_out else None
                await self._session.ask(partial(questions.leave, me=me, taken_out=taken_out))
        if impatient.active():
            impatient.cancel()
        await self._session.stop()

    def look_now(self) -> None:
        """Look at the fleet at once: something changed."""
        self._is_due = True
        pausing, self._pausing = self._pausing, None
        if pausing is not None:
            pausing.callback(None)

    async def _stay(self) -> None:
        """Be a member, and enter anew a lease after a fault: else its part of the work would stand still."""
        while self.running:
            await Deferred.fromCoroutine(self._live()).addErrback(self._broke)
            until = self._reactor.seconds() + self._lease.seconds
            while self.running and (left := until - self._reactor.seconds()) > 0:
                await self._pause(left)

    async def _live(self) -> None:
        while self.running:
            self._is_due = False
            before = self._me
            try:
                pause = await self._beat(self.clock.seconds())
            except JournalError as problem:
                pause, self._is_due = _RETRY, False
                if self._me is not None:
                    self._problem = str(problem)
                elif before is None:  # else it stopped by itself, which has cut the connection
                    self._problem = f"this node is out of the fleet: {problem}"
            if self.running and not self._is_due:
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        self._pausing = Deferred()
        timer = self._reactor.callLater(seconds, self.look_now)
        await self._pausing
        if timer.active():
            timer.cancel()

    def _broke(self, failure: Failure) -> None:
        _log.failure("the membership of the fleet ended by a fault of stackit's own; it enters anew", failure)
        self._problem = "this node is out of the fleet by a fault of stackit's own, which is in its log; it enters anew"
        self._lose_everything()

    # -- one beat -----------------------------------------------------------------

    async def _beat(self, started: float) -> float:
        """Renew the lease, see what changed, and do what is to do; returns the seconds until the next beat."""
        me = self._me
        if me is None:
            if self._leaving is not None:
                return self._lease.seconds
            look = await self._session.ask(
                partial(
                    questions.register,
                    candidate=self._candidate,
                    older=self._last,
                    draining=self.is_draining(),
                    made=self._made,
                )
            )
        else:
            leaves = self._leaving is not None
            look = await self._session.ask(
                partial(questions.beat, candidate=self._candidate, me=me, stamp=self._stamp, leaves=leaves)
            )
            self._lease.look()  # one that was over is not begun again: what did not begin for that would be forgotten
            if self._me != me:
                return 0.0  # it stopped by itself meanwhile
        if look.reading is not None:
            self.clock.observe(look.reading)
        if look.me is None:
            self._was_buried(look)
            return 0.0 if look.namesake is None else self._lease.seconds
        if me is None and self._lease.is_over(started):
            # A database that stood still lets it in late: it would be out again before it did anything.
            self._problem = "this node is out of the fleet: the database took as long as its lease to let it in"
            with suppress(JournalError):  # the lease ends by itself
                await self._session.ask(partial(questions.leave, me=look.me, taken_out=None))
            return 0.0
        self._lease.renew(started)
        self._standstill.until = self._lease.until
        self._problem = None
        if me is None:
            self._me = self.ownership.me = self._standstill.me = look.me
            self._entered()
            _log.info("this node is in the fleet: {name}, incarnation {number}", name=self.here, number=look.me)
            if self._leaving is not None:
                return 0.0
        self._see(look, look.me)
        await self._act(look.me)
        return self._pause_after(look)

    def _made(self, incarnation: int) -> None:
        """Take note, in the session's thread, of an incarnation that may have entered, whatever becomes of it."""
        self._last = incarnation

    def _stop_by_itself(self) -> None:
        """End the membership a little before anybody may take the work: the database has not answered."""
        self._lose_everything()
        self._session.cut()
        self._leave_fleet("the database has not answered for most of the lease; others do its work if they reach it")

    def _was_buried(self, look: Look) -> None:
        was_here = self._me is not None
        self._lose_everything()
        if look.namesake is not None:
            self._leave_fleet(f"{look.namesake or 'another'} has the name {self.here} now: give one another name")
        elif was_here:
            self._leave_fleet("its lease was over, and others do its work; it enters anew")

    def _leave_fleet(self, reason: str) -> None:
        problem = f"this node is out of the fleet: {reason}"
        if problem != self._problem:
            self._notice(problem)
        self._problem = problem

    def _lose_everything(self) -> None:
        self._lease.end()
        self._me = self._standstill.until = None
        self._stamp = ""
        self._show_arriving({})
        if self._holdings.lose_all():
            self._changed()
        self._has_left()

    def _see(self, look: Look, me: int) -> None:
        """Take over what the look showed: who is there, and who owns what."""
        before = self.view
        shards = before.shards if look.shards is None else look.shards
        self._stamp = look.stamp
        self._show(View(look.members, shards))
        if self.is_draining() and not _is_draining(before.by_name.get(self.here)):
            told = drain_warning(self.view.alone_with(self.here)) or "others get its work"
            self._notice(f"this node is draining: {told}; stackit fleet undrain {self.here} ends that")
        for name in look.buried:
            self._notice(f"node {name} is gone: its lease is over, and others take its work")
        if look.shards is not None:
            self.ownership.owners = {shard: row.owner for shard, row in shards.items() if row.owner is not None}
            self._holdings.adopt({shard: row.epoch for shard, row in shards.items() if row.owner == me})
        if look.shards is not None or _faces(before) != _faces(self.view):
            self._changed()

    async def _act(self, me: int) -> None:
        """Take, drain, and give what the plan says."""
        plan = self._planner.plan(self.view, me)
        self._show_arriving({row_of(shard)[1]: home for shard, home in plan.arriving.items()})
        marked = [shard for shard, row in self.view.shards.items() if row.heir == me and shard not in plan.arriving]
        if marked:  # or the next time that they are to come, they would come without their mirrors
            numbers = [row_of(shard)[1] for shard in marked]
            await self._session.ask(partial(questions.unprepared, me=me, numbers=numbers))
        if heirs := self._holdings.follow(plan.give):
            given = await self._session.ask(partial(questions.give, me=me, heirs=heirs))
            if self._me == me:
                self._holdings.have_given(given)
                self._changed()
        if plan.take and self._me == me:
            taken = await self._session.ask(partial(questions.take, me=me, name=self.here, shards=plan.take))
            if self._me == me and taken:
                self._holdings.add(taken)
                self._changed()
        if not self.ownership.epochs:
            self._has_left()

    def _has_left(self) -> None:
        if self._leaving is not None and not self._leaving.called:
            self._leaving.callback(None)

    def _mark(self, numbers: Collection[int]) -> None:
        """Tell the owners of shards that copies of their mirrors are here."""
        if self._me is not None and numbers:
            marking = self._session.ask(partial(questions.prepared, me=self._me, numbers=numbers))
            marking.addErrback(_not_told)

    def _pause_after(self, look: Look) -> float:
        """Return the seconds until the next beat: early enough to see the end of another's lease when it is there."""
        ends = [each.left for each in look.members if each.incarnation != look.me and each.state != "dead"]
        return min([self._pause_of_beats(), *(left + 0.01 for left in ends if left > 0)])

    def _pause_of_beats(self) -> float:
        return min(self._lease.seconds / _BEATS, _LONGEST_PAUSE)


def _faces(view: View) -> dict[str, tuple[int, str, str]]:
    """Return what others may see of the members, without their leases."""
    return {name: (each.incarnation, each.state, each.address) for name, each in view.by_name.items()}


def _is_draining(member: Member | None) -> bool:
    return member is not None and member.state == "draining"


def _not_told(failure: Failure) -> None:
    failure.trap(JournalError)  # the connection was cut; whoever asks next says so, and the next look tells anew
