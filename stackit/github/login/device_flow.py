"""GitHub's device flow, for shells and for browsers that cannot come back: a person enters a code at GitHub."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.admin import AdminRequest
from stackit.api.errors import StackitError
from stackit.api.person import Person
from stackit.github.apps import GitHubApp
from stackit.github.login.admission import Admission, NotAdmitted
from stackit.github.login.devices import Device, Devices
from stackit.github.login.oauth import DeviceCodes, OAuth, OAuthError, Pending

_SOONEST = 1.0


class DeviceFlow:
    """The logins by a code. ``seconds`` is the reactor's clock."""

    def __init__(self, admission: Admission, seconds: Callable[[], float]) -> None:
        self._admission = admission
        self._seconds = seconds
        self._devices = Devices(seconds)

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

    def find(self, key: str) -> Device | None:
        """Return the login of a secret; None where there is none, and where its time is over."""
        return self._devices.find(key)

    async def ask(self, request: AdminRequest, key: str) -> Person:
        """Return the person who entered the code. Raises Pending before, NotAdmitted where nobody comes in by it."""
        device = self._devices.find(key)
        if device is None:
            raise NotAdmitted("no login waits by that name (any more): begin again", 404)
        soon = device.next_at - self._seconds()
        if device.is_asking or soon > 0:
            raise Pending(max(soon, _SOONEST))
        device.is_asking = True
        try:
            oauth, app = self._admission.oauth()
            return await self._person(request, key, device, oauth, app)
        except NotAdmitted:
            raise
        except StackitError as problem:
            self._devices.remove(key)
            self._admission.entrance.refuse(request, "", str(problem))
            raise NotAdmitted(str(problem), self._admission.status_of(problem)) from None
        finally:
            device.is_asking = False
            device.next_at = self._seconds() + device.interval

    async def _person(self, request: AdminRequest, key: str, device: Device, oauth: OAuth, app: GitHubApp) -> Person:
        try:
            user = await oauth.poll(device.codes, device.interval)
        except Pending as pending:
            device.interval = pending.interval
            raise
        except OAuthError as problem:
            if problem.code:
                raise
            raise Pending(device.interval) from None  # GitHub does not answer: the code may still be entered
        self._devices.remove(key)
        return await self._admission.person(request, app, user)
