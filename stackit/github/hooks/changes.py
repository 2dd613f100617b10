"""Webhooks at GitHub, made and mended."""

from __future__ import annotations

from typing import Any

from stackit.github.api import ApiClient
from stackit.github.hooks.found import Hook
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.wanted import WantedHook

_APP = "/app/hook/config"


async def create(client: ApiClient, target: HookTarget, wanted: WantedHook, secret: str) -> Hook:
    """Make the webhook of an organization or a repository, and return it. Raises ApiError."""
    body = {
        "name": "web",
        "active": True,
        "events": wanted.chosen(target.kind),
        "config": {**_config(wanted), "secret": secret},
    }
    return await client.send("POST", target.list_route, body, Hook, **target.values)


async def mend(client: ApiClient, target: HookTarget, hook: Hook, wanted: WantedHook, secret: str) -> None:
    """Make a webhook what it should be, at once. Raises ApiError; to do it again does no harm.

    GitHub drops the secret at a change of a webhook that does not have it.
    """
    events = sorted({*hook.events, *wanted.needed(target.kind)})
    config = {**_config(wanted), "secret": secret}
    if hook.active and events == sorted(hook.events):
        await configure(client, target, hook.id, config)
        return
    if "url" not in config:
        config["url"] = hook.config.url or ""
    body = {"active": True, "events": ["*"] if "*" in events else events, "config": config}
    await client.send("PATCH", f"{target.list_route}/{{hook}}", body, hook=hook.id, **target.values)


async def mend_app(client: ApiClient, wanted: WantedHook) -> None:
    """Give the webhook of an App the URL and the settings that it should have; its secret stays. Raises ApiError."""
    await client.send("PATCH", _APP, _config(wanted))


async def configure(client: ApiClient, target: HookTarget, hook: int | None, config: dict[str, Any]) -> None:
    """Change the config of a webhook: what is not given stays as it is. Raises ApiError."""
    if target.kind == "app":
        await client.send("PATCH", _APP, config)
    else:
        await client.send("PATCH", f"{target.list_route}/{{hook}}/config", config, hook=hook, **target.values)


async def ping(client: ApiClient, target: HookTarget, hook: int) -> None:
    """Have GitHub send a ping. Raises ApiError."""
    await client.send("POST", f"{target.list_route}/{{hook}}/pings", hook=hook, **target.values)


def _config(wanted: WantedHook) -> dict[str, Any]:
    config = {"content_type": wanted.content_type, "insecure_ssl": "0"}
    return config | ({"url": wanted.urls[0]} if wanted.urls else {})
