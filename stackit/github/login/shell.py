"""The login of a shell: GitHub's device flow, which needs no browser on the same machine, and no client secret."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from stackit.api.admin import AdminRequest, Response, Role, Route, error
from stackit.github.login.admission import Admission, NotAdmitted
from stackit.github.login.device_flow import DeviceFlow
from stackit.github.login.steps import Waiting
from stackit.text.times import rfc3339

_PATH = "{prefix}/login/device"
_ERRORS = {
    403: "GitHub or the configuration refuses.",
    404: "No login waits by that name, or nobody logs in with GitHub here.",
    502: "GitHub does not answer.",
}


class DeviceLogin(msgspec.Struct, frozen=True, kw_only=True):
    """A login that a shell has begun: the person enters ``user_code`` at ``verification_uri``.

    ``device`` is the secret of the shell. ``interval`` is the seconds between two questions.
    """

    device: str
    user_code: str
    verification_uri: str
    expires_at: str
    interval: float


class DeviceQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question of a shell whether its login is done; ``device`` is what it was given."""

    device: str


class DeviceState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a login stands: ``pending``, and when to ask again, or ``done``, with the token of the session."""

    state: Literal["pending", "done"]
    interval: float | None = None
    token: str | None = None
    name: str | None = None
    role: Role | None = None
    ends_at: str | None = None


class LoggedOut(msgspec.Struct, frozen=True):
    """The end of a login; ``by`` is whose it was."""

    by: str


class ShellLogin:
    """The routes of shells. ``now`` is the wall clock."""

    def __init__(self, admission: Admission, flow: DeviceFlow, now: Callable[[], float]) -> None:
        self._admission = admission
        self._flow = flow
        self._now = now

    def routes(self) -> Sequence[Route]:
        """Return the routes. Who asks to log in is not known: that is what they are for."""
        return [
            Route(
                "POST",
                _PATH,
                self._begin,
                query=(),
                open=True,
                form=True,  # which pages of others may not send
                when_read_only=True,
                summary="Begin the login of a shell: a person enters a code at GitHub.",
                returns=DeviceLogin,
                status=201,
                errors={
                    429: "Too many logins from this address.",
                    503: "Too many shells wait for their logins.",
                    **_ERRORS,
                },
            ),
            Route(
                "POST",
                f"{_PATH}/poll",
                self._poll,
                query=(),
                open=True,
                form=True,
                when_read_only=True,
                summary="Ask whether the login of a shell is done.",
                body=DeviceQuestion,
                returns=DeviceState,
                errors={
                    400: "The question makes no sense.",
                    410: "The node of the fleet where it began does not answer.",
                    429: "Too many questions from this address.",
                    503: "It cannot be known who may come in.",
                    **_ERRORS,
                },
            ),
            Route(
                "DELETE",
                "{prefix}/session",
                self._log_out,
                query=(),
                role="viewer",
                when_read_only=True,
                summary="End the login of the one who asks.",
                returns=LoggedOut,
                errors={409: "There is no login to end."},
            ),
        ]

    def _log_out(self, request: AdminRequest) -> Response:
        if not request.session:
            return error(409, "there is no login to end: this request has none")
        self._admission.entrance.leave(request, "/")
        return Response(body=LoggedOut(by=request.by))

    async def _begin(self, request: AdminRequest) -> Response:
        waiting = self._admission.wait(request)
        if waiting is not None:
            return waiting
        try:
            key, codes = await self._flow.begin(request)
        except NotAdmitted as problem:
            return error(problem.status, str(problem))
        begun = DeviceLogin(
            device=key,
            user_code=codes.user_code,
            verification_uri=codes.verification_uri,
            expires_at=rfc3339(self._now() + codes.expires_in),
            interval=codes.interval,
        )
        return Response(status=201, body=msgspec.to_builtins(begun))

    async def _poll(self, request: AdminRequest) -> Response:
        try:
            key = msgspec.json.decode(request.body, type=DeviceQuestion).device
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return error(400, 'expected {"device": "…"}, as the answer that began the login has it')
        try:
            step = await self._flow.ask(request, key)
        except NotAdmitted as problem:
            return error(problem.status, str(problem))
        if isinstance(step, Waiting):
            return Response(body={"state": "pending", "interval": step.interval})
        person, _ = step
        token, ends_at = self._admission.entrance.issue(request, person)
        done = DeviceState(state="done", token=token, name=person.name, role=person.role, ends_at=rfc3339(ends_at))
        return Response(body=msgspec.to_builtins(done))
