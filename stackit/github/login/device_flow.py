"""GitHub's device flow, for shells and for browsers that cannot come back: a person enters a code at GitHub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from stackit.api.admin import AdminRequest, Route
from stackit.api.errors import StackitError
from stackit.api.nodes import Node
from stackit.api.peers import Affinity, NodeQuestion
from stackit.api.person import Person
from stackit.github.login.admission import Admission, NotAdmitted
from stackit.github.login.devices import Device, Devices, digest_of
from stackit.github.login.identity import provider
from stackit.github.login.oauth import DeviceCodes, OAuthError, Pending
from stackit.github.login.steps import Entered, Failed, LoginQuestion, Step, Unknown, Waiting

PATH = "/nodes/login"
"""Behind a prefix of the API: where a node is asked for a login that began there."""
_PURPOSE = "login"
_SOONEST = 1.0
_OTHER_GITHUB = "people log in by another GitHub than when this login began: begin again"


class UnknownLogin(NotAdmitted):
    """No login waits by that key, or not any more."""

    def __init__(self) -> None:
        super().__init__("no login waits by that name (any more): begin again", 404)


class DeviceFlow:
    """The logins by a code. ``seconds`` is the reactor's clock.

    Each is known at the node where it began, in memory: there GitHub is asked, one question at a time. Any other node
    asks that one, and lets the person in itself. ``in_fleet`` says whether there may be any.
    """

    def __init__(
        self, admission: Admission, seconds: Callable[[], float], affinity: Affinity, *, in_fleet: bool
    ) -> None:
        self._admission = admission
        self._seconds = seconds
        self._affinity = affinity
        self._in_fleet = in_fleet
        self._question_of_node = NodeQuestion[LoginQuestion, Step](
            PATH,
            LoginQuestion,
            Step,
            self._tell,
            summary="Tell another node how a login by a code stands that began here.",
            seconds=seconds,
        )
        self._devices = Devices(seconds, partial(affinity.mark, _PURPOSE))

    def routes(self) -> Sequence[Route]:
        """Return the route by which other nodes ask; none without a fleet."""
        return [self._question_of_node.route()] if self._in_fleet else []

    async def begin(self, request: AdminRequest, following: str = "/") -> tuple[str, DeviceCodes]:
        """Return the secret of a login that is under way, and its codes. Raises NotAdmitted.

        ``following`` is the path to go to at its end.
        """
        try:
            oauth = self._admission.oauth()[0]
            if not self._devices.make_room(request.client):
                raise NotAdmitted("too many logins wait for their codes: try again later", 503)
            codes = await oauth.begin_device()
        except NotAdmitted:
            raise
        except StackitError as problem:
            raise NotAdmitted(str(problem), self._admission.status_of(problem)) from None
        return self._devices.add(codes, request.client, following), codes

    async def ask(self, request: AdminRequest, key: str) -> Waiting | tuple[Person, str]:
        """Return the person who entered the code, and the path to go to; before, how long to wait.

        Raises NotAdmitted where nobody comes in by it, UnknownLogin where there is no such login.
        """
        node = self._affinity.elsewhere(_PURPOSE, key)
        step = await self._step(digest_of(key)) if node is None else await self._step_at(node, request, digest_of(key))
        if isinstance(step, Waiting):
            return step
        if isinstance(step, Unknown):
            raise UnknownLogin
        if isinstance(step, Failed):
            raise self._refused(request, step.problem, step.status)
        try:
            app = self._admission.oauth()[1]
        except StackitError as problem:
            raise NotAdmitted(str(problem), self._admission.status_of(problem)) from None
        if step.provider != provider(app.config):
            raise self._refused(request, _OTHER_GITHUB, 403)
        return await self._admission.person(request, app, step.user), step.following

    def _refused(self, request: AdminRequest, problem: str, status: int) -> NotAdmitted:
        self._admission.entrance.refuse(request, "", problem)
        return NotAdmitted(problem, status)

    # -- at the node where it began -------------------------------------------------

    async def _step(self, digest: str) -> Step:
        device = self._devices.find(digest)
        if device is None:
            return Unknown()
        soon = device.next_at - self._seconds()
        if device.is_asking or soon > 0:
            return _waiting(device, max(soon, _SOONEST))
        device.is_asking = True
        try:
            return await self._question(digest, device)
        except StackitError as problem:
            self._devices.remove(digest)
            return Failed(problem=str(problem), status=self._admission.status_of(problem))
        finally:
            device.is_asking = False
            device.next_at = self._seconds() + device.interval

    async def _question(self, digest: str, device: Device) -> Step:
        oauth, app = self._admission.oauth()
        asked = provider(app.config)  # a reload may put another in its place meanwhile
        try:
            user = await oauth.poll(device.codes, device.interval)
        except Pending as pending:
            device.interval = pending.interval
            return _waiting(device, pending.interval)
        except OAuthError as problem:
            if problem.code:
                raise
            return _waiting(device, device.interval)  # GitHub does not answer: the code may still be entered
        self._devices.remove(digest)
        return Entered(user=user, following=device.following, provider=asked)

    async def _tell(self, question: LoginQuestion, _: AdminRequest) -> Step:
        return await self._step(question.digest)

    # -- at any other ---------------------------------------------------------------

    async def _step_at(self, node: Node, request: AdminRequest, digest: str) -> Step:
        if self._question_of_node.wait(request) is not None:
            raise NotAdmitted("too many questions came from this address: begin again later", 429)
        step = await self._question_of_node.ask(self._affinity, node, LoginQuestion(digest), request)
        if step is None:
            raise NotAdmitted("the node of the fleet where this login began does not answer: begin again", 410)
        return step


def _waiting(device: Device, interval: float) -> Waiting:
    codes = device.codes
    return Waiting(interval=interval, user_code=codes.user_code, verification_uri=codes.verification_uri)
