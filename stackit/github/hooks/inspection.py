"""One look at a webhook at GitHub."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stackit.api.errors import StackitError
from stackit.github.api import ApiClient, ApiError
from stackit.github.hooks.access import HookAccess
from stackit.github.hooks.faults import Fault, command, faults_of, missing
from stackit.github.hooks.found import AppPage, FoundHook, Hook, HookConfig, of_hook
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook

_NEEDED = ("contents", "metadata")
_ENDING = "/webhooks/github"


class Inspection(msgspec.Struct, frozen=True):
    """What a look found: the webhook, None where there is none, and its faults."""

    found: FoundHook | None
    faults: tuple[Fault, ...]


async def inspect(
    target: HookTarget, access: HookAccess, wanted: WantedHook, known: int | None, *, has_secret: bool = True
) -> Inspection:
    """Look at a webhook. ``known`` is the id that it had. Raises StackitError where it may not be seen.

    ``has_secret`` tells whether a webhook secret speaks for the target: an App without one that sends elsewhere is of
    use for its tokens alone, and its webhook somebody else's.
    """
    if target.kind == "app":
        found = await of_app(target, access)
        is_used = has_secret or bool(wanted.urls and found.config.url and wanted.is_right(found.config.url))
        return Inspection(found, tuple(faults_of(target, found, wanted)) if is_used else ())
    hooks = await listed(target, await access.client(target))
    chosen = choose(hooks, wanted, known)
    if chosen is not None:
        found = of_hook(chosen)
        return Inspection(found, tuple(faults_of(target, found, wanted)))
    if known is not None:
        return Inspection(None, (Fault("deleted", "was deleted at GitHub", command("create", target)),))
    near = next((each for each in hooks if (each.config.url or "").endswith(_ENDING)), None)
    return Inspection(None, (missing(target, None if near is None else of_hook(near)),))


async def of_app(target: HookTarget, access: HookAccess) -> FoundHook:
    """Return the webhook of an App. Raises StackitError."""
    app = access.app(target)
    client = await access.client(target)
    try:
        config = await client.get("/app/hook/config", HookConfig)
        page = await client.get("/app", AppPage)
    except ApiError as problem:
        raise app.refused(problem) if problem.reason == "unauthorized" else problem from None
    return FoundHook(
        config=config,
        events=page.events,
        settings=page.settings_url(app.config.web_url),
        lacking=tuple(f"{each}: read" for each in _NEEDED if each not in page.permissions),
    )


async def listed(target: HookTarget, client: ApiClient) -> list[Hook]:
    """Return every webhook of an organization or a repository. Raises StackitError."""
    try:
        return [each async for page in client.pages(target.list_route, list[Hook], **target.values) for each in page]
    except ApiError as problem:
        if problem.reason != "not_found":
            raise
        raise StackitError(
            f"GitHub shows no {target.name} to this App or token: check the name, and what they may see ({problem})"
        ) from None


def choose(hooks: Sequence[Hook], wanted: WantedHook, known: int | None) -> Hook | None:
    """Return the webhook that is stackit's: the one that is known, else one that sends here."""
    for each in hooks:
        if each.id == known:
            return each
    if not wanted.urls:
        endings = [each for each in hooks if (each.config.url or "").endswith(_ENDING)]
        return endings[0] if len(endings) == 1 else None
    here = [each for each in hooks if each.config.url and wanted.is_right(each.config.url)]
    return max(here, key=lambda each: each.active, default=None)
