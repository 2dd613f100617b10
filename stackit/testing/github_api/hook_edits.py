"""Requests that make and change webhooks: what GitHub accepts, and how it refuses the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stackit.testing.catalogue import EVENTS
from stackit.testing.github_api.answers import ApiRefused
from stackit.testing.github_api.hooks import Hook, HookConfig

MOST_HOOKS = 20
"""How many webhooks of one owner or repository may want the same event."""

_HIDDEN = "********"


def invalid(resource: str, field: str, message: str) -> ApiRefused:
    """Return the refusal of a body that was understood and is not accepted."""
    error = {"resource": resource, "field": field, "code": "custom", "message": message}
    return ApiRefused(422, "Validation Failed", extra={"errors": [error]})


def whole_config(given: Any) -> HookConfig:
    """Return the config of a body that replaces it: what is not given is as for a new webhook. Raises ApiRefused."""
    config = HookConfig()
    merge_config(config, given)
    if not config.url:
        raise invalid("Hook", "url", "url cannot be blank")
    return config


def merge_config(config: HookConfig, given: Any) -> None:
    """Change what a body gives, and leave the rest. Raises ApiRefused."""
    if not isinstance(given, Mapping):
        raise invalid("Hook", "config", "config must be an object")
    content_type = given.get("content_type", config.content_type)
    if content_type not in ("json", "form"):
        raise invalid("Hook", "content_type", "content_type must be json or form")
    url = given.get("url", config.url)
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise invalid("Hook", "url", "url is not a URL" if url else "url cannot be blank")
    config.url, config.content_type = url, content_type
    config.insecure_ssl = str(given.get("insecure_ssl", config.insecure_ssl))
    if given.get("secret") not in (None, _HIDDEN):
        config.secret = str(given["secret"])


def events_of(given: Any, usual: Iterable[str]) -> list[str]:
    """Return the events that a body asks for. Raises ApiRefused for one that GitHub does not have."""
    if given is None:
        return list(usual)
    if not isinstance(given, list) or not given or any(each != "*" and each not in EVENTS for each in given):
        raise invalid("Hook", "events", "events contains an event that does not exist")
    return list(given)


def check_room(siblings: Iterable[Hook], config: HookConfig, events: Iterable[str], whose: str) -> None:
    """Raise ApiRefused for a webhook that is there already, or for one too many of the same event."""
    others, wanted = list(siblings), set(events)
    if any(each.config.url == config.url and set(each.events or ()) == wanted for each in others):
        raise invalid("Hook", "base", f"Hook already exists on this {whose}")
    for event in sorted(wanted):
        if sum(event in (each.events or ()) for each in others) >= MOST_HOOKS:
            raise invalid("Hook", "base", f"The {event!r} event cannot have more than {MOST_HOOKS} hooks")
