"""What a person may do to webhooks at GitHub, by the admin side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error, unavailable
from stackit.api.errors import JournalError, StackitError
from stackit.api.occurrences import Occurrence
from stackit.api.schema import Parameter
from stackit.config.model import Config
from stackit.github.api import ApiClient
from stackit.github.hooks import changes
from stackit.github.hooks.access import HookAccess
from stackit.github.hooks.answers import HookChanged, HookDone, ShownFault, ShownHook, ShownHooks
from stackit.github.hooks.deliveries import DeliveryWatch
from stackit.github.hooks.found import Hook
from stackit.github.hooks.inspection import choose, listed
from stackit.github.hooks.monitor import HookMonitor, LastLook
from stackit.github.hooks.rotation import KEEP_OLD, Rotations, Share, send_again
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook
from stackit.github.hooks.watched import WatchedHooks
from stackit.text.redaction import redacted
from stackit.text.times import rfc3339
from stackit.text.units import Duration

PING_WITHIN = 15.0
"""Seconds to wait for a ping."""

_HOOK = Parameter("hook", "The webhook: app:NAME, ORGANIZATION or OWNER/NAME.")
Action = Callable[[HookTarget, AdminRequest], Awaitable[HookDone | HookChanged]]


class HookCommands:
    """The routes. An action that cannot be done is answered 502, with the reason and the way out."""

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        wanted: Callable[[], WantedHook],
        watched: WatchedHooks,
        access: HookAccess,
        monitor: HookMonitor,
        rotations: Rotations,
        files: SecretFiles,
        deliveries: DeliveryWatch,
        refresh: Callable[[], None],
        share: Share,
    ) -> None:
        self._share = share
        self._config = config
        self._wanted = wanted
        self._watched = watched
        self._access = access
        self._monitor = monitor
        self._rotations = rotations
        self._files = files
        self._deliveries = deliveries
        self._refresh = refresh

    def routes(self) -> Sequence[Route]:
        """Return the routes of the admin side."""
        number = Parameter("id", "GitHub's id of the webhook, where there are several.")
        keep_old = Parameter("keep_old", "How long the old secret stays valid (a duration such as 10m).")
        changes: Sequence[tuple[str, Action, str, Any, tuple[Parameter, ...]]] = [
            ("create", self._create, "Make a webhook at GitHub.", HookChanged, ()),
            ("update", self._update, "Mend a webhook at GitHub.", HookChanged, (number,)),
            ("ping", self._ping, "Have GitHub send a ping, and wait for it.", HookDone, ()),
            ("rotate", self._rotate, "Give a webhook a new secret, and lose no delivery.", HookDone, (keep_old,)),
            ("forget", self._forget, "Forget a webhook, and the secret that stackit made for it.", HookDone, ()),
        ]
        found = [
            Route(
                "POST",
                "{prefix}/hooks/check",
                self._check,
                query=(_HOOK,),
                node="leader",
                summary="Look at webhooks at GitHub now.",
                returns=ShownHooks,
            )
        ]
        found += [
            Route(
                "POST",
                f"{{prefix}}/hooks/{name}",
                _one(action),
                query=(msgspec.structs.replace(_HOOK, required=True), *more),
                node="leader",
                summary=summary,
                returns=answer,
                errors={502: "GitHub does not do it; the error has the reason and the way out."},
            )
            for name, action, summary, answer, more in changes
        ]
        return found

    async def _check(self, request: AdminRequest) -> Response:
        """Look at the webhooks now: at one, or at all that are watched."""
        try:
            one = _target(request) if "hook" in request.query else None
            targets = [one] if one is not None else list(self._watched.targets().values())
        except StackitError as problem:
            return error(400, str(problem))
        found = [self.shown(target, await self._monitor.look(target)) for target in targets]
        return Response(body=ShownHooks(found, self._config().public_url))

    def shown(self, target: HookTarget, state: LastLook | None) -> ShownHook:
        """Return a webhook for an answer."""
        inspection = None if state is None else state.inspection
        found = None if inspection is None else inspection.found
        return ShownHook(
            hook=target.text,
            id=None if found is None else found.id,
            url=None if found is None else redacted(found.config.url or ""),
            active=None if found is None else found.active,
            events=[] if found is None else list(found.events),
            changing_secret=self._rotations.is_changing(target),
            problem=None if state is None else state.problem,
            faults=[
                ShownFault(each.kind, each.line(target), each.mend)
                for each in self._monitor.alarms.of(target)
                if each.kind != "unchecked"
            ],
            looked_at=None if state is None else rfc3339(state.looked_at),
        )

    async def _create(self, target: HookTarget, _: AdminRequest) -> HookChanged:
        wanted = self._to_send_here()
        if target.kind == "app":
            raise StackitError(f"an App has its webhook from the start: stackit hook update {target.text}")
        client = await self._access.client(target, write=True)
        known = self._watched.id_of(target)
        there = choose(await listed(target, client), wanted, known)
        if there is not None:
            raise StackitError(f"{target.label} is there, with the id {there.id}: stackit hook update {target.text}")
        file, secret = await self._secret(target)
        hook = await changes.create(client, target, wanted, secret)
        await self._watched.learn(target, hook.id)
        state = await self._monitor.look(target)
        return HookChanged.of(self.shown(target, state), "created", str(file))

    async def _update(self, target: HookTarget, request: AdminRequest) -> HookChanged:
        wanted = self._to_send_here()
        client = await self._access.client(target, write=True)
        file: Path | None = None
        if target.kind == "app":
            await changes.mend_app(client, wanted)
        else:
            hook = await self._hook(target, client, wanted, request.query.get("id"))
            file, secret = await self._secret(target)
            await changes.mend(client, target, hook, wanted, secret)
            await self._watched.learn(target, hook.id)
        state = await self._monitor.look(target)
        return HookChanged.of(self.shown(target, state), "updated", None if file is None else str(file))

    async def _ping(self, target: HookTarget, _: AdminRequest) -> HookDone:
        client = await self._access.client(target, write=True)
        hook = None if target.kind == "app" else await self._hook(target, client, self._wanted(), None)
        own, repo = self._watched.labels(target), target.repo
        key = None if repo is None else repo.key

        def matches(occurrence: Occurrence) -> bool:
            if hook is None:
                return occurrence.verified_by in own or not own
            pinged = occurrence.repo
            return occurrence.outcome == "ping" and (None if pinged is None else pinged.key) == key

        with self._deliveries.expect(matches) as expected:
            if hook is not None:
                await changes.ping(client, target, hook.id)
            elif not await send_again(client):
                raise StackitError(
                    f"{target.label} has no ping, and GitHub has no delivery of it to send again: push to a repository "
                    "that it is installed for, and try again"
                )
            came = await expected.wait(PING_WITHIN)
        if not came:
            raise StackitError(
                f"GitHub sent it, and nothing that verifies came within {PING_WITHIN:g} seconds; look at Recent "
                f"Deliveries at GitHub for the answer that it got: a 401 is another secret (stackit hook rotate "
                f"{target.text}), no connection a wrong URL or a proxy"
            )
        return HookDone(hook=target.text, done="pinged")

    async def _rotate(self, target: HookTarget, request: AdminRequest) -> HookDone:
        keep_old = _seconds(request.query.get("keep_old"))
        client = await self._access.client(target, write=True)
        hook = None if target.kind == "app" else await self._hook(target, client, self._wanted(), None)
        state = await self._rotations.rotate(client, target, None if hook is None else hook.id, keep_old)
        if hook is not None:
            await self._watched.learn(target, hook.id)
        await self._monitor.look(target)
        home = self._files.home(target, self._config().scoped_secrets)
        return HookDone(
            hook=target.text,
            done=state,
            secret_file=str(home if state == "changed" else self._files.next(target)),
            also_valid=self._others(target, home),
        )

    async def _forget(self, target: HookTarget, _: AdminRequest) -> HookDone:
        known = await self._watched.forget(target)
        had_secret = bool(self._files.read(self._files.current(target)))
        if not (known or had_secret):
            raise StackitError(f"stackit knows nothing of {target.label}")
        self._files.remove(target)
        self._refresh()
        await self._share([self._files.current(target), self._files.next(target)])
        return HookDone(hook=target.text, done="forgotten")

    # -- what they share ----------------------------------------------------------

    def _to_send_here(self) -> WantedHook:
        wanted = self._wanted()
        if not wanted.urls:
            raise StackitError("GitHub has to be told where to send: set public_url, the URL of the public side")
        return wanted

    async def _hook(self, target: HookTarget, client: ApiClient, wanted: WantedHook, number: str | None) -> Hook:
        """Return the webhook that is meant. Raises StackitError where there is none."""
        hooks = await listed(target, client)
        if number is not None:
            found = next((each for each in hooks if str(each.id) == number), None)
            if found is None:
                raise StackitError(f"there is no webhook with the id {number[:20]} at {target.name}")
            return found
        found = choose(hooks, wanted, self._watched.id_of(target))
        if found is None:
            raise StackitError(f"{target.label} is not there: stackit hook create {target.text}")
        return found

    async def _secret(self, target: HookTarget) -> tuple[Path, str]:
        """Return the secret of a webhook with its file, valid from now on: that of the configuration, else one made."""
        next_one = self._files.next(target)
        if self._rotations.is_changing(target):
            return next_one, self._files.read(next_one)
        for each in self._config().scoped_secrets:
            if each.scope.lower() == target.key and (secret := self._files.read(each.file)):
                return each.file, secret
        file = self._files.current(target)
        secret = self._files.make(file)
        self._refresh()
        await self._share([file])
        return file, secret

    def _others(self, target: HookTarget, home: Path) -> list[str]:
        """Return the files of the configuration whose secrets also speak for a webhook's repositories."""
        own = {home, self._files.current(target), self._files.next(target)}
        config = self._config()
        scoped = [each.file for each in config.scoped_secrets if each.scope.lower() == target.key]
        return [str(file) for file in (*scoped, *config.webhook.secret_files) if file not in own]


def _one(action: Action) -> Callable[[AdminRequest], Awaitable[Response]]:
    async def handle(request: AdminRequest) -> Response:
        try:
            target = _target(request)
            _seconds(request.query.get("keep_old"))
        except StackitError as problem:
            return error(400, str(problem))
        try:
            return Response(body=await action(target, request))
        except JournalError as problem:
            return unavailable(problem)
        except StackitError as problem:
            return error(502, str(problem))

    return handle


def _target(request: AdminRequest) -> HookTarget:
    try:
        return HookTarget.parse(request.query.get("hook", ""))
    except ValueError as problem:
        raise StackitError(str(problem)) from None


def _seconds(text: str | None) -> float:
    try:
        return KEEP_OLD if text is None else float(Duration.parse(text))
    except ValueError as problem:
        raise StackitError(f"keep_old: {problem}") from None
