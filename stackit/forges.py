"""The forges of a configuration: their webhook secrets, and the events that the journal kept of them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackit.api.events import Event, RefsChanged
from stackit.api.forge import Forge, Forges, secret_variable
from stackit.config.model import Config
from stackit.config.scopes import ScopedSecret, by_file
from stackit.github import GitHub
from stackit.github.hooks.secret_files import SecretFiles
from stackit.journal import StoredEvent, decode_changes
from stackit.web.webhook_secrets import Secrets


def made_secrets(config: Config) -> tuple[ScopedSecret, ...]:
    """Return the webhook secrets that stackit made itself, without those of Apps that are not configured.

    Raises StackitError where they cannot be listed.
    """
    apps = {f"app:{each.name}".lower() for each in config.apps}
    found = SecretFiles(config.state_dir).scoped()
    return tuple(each for each in found if not each.scope.startswith("app:") or each.scope.lower() in apps)


def with_secrets(config: Config, notice: Callable[[str], None]) -> list[tuple[Forge, Secrets]]:
    """Return GitHub and each installed forge. ``notice`` is told when the file of a secret changes.

    Raises StackitError where the secrets that stackit made cannot be listed.
    """
    github = GitHub(config.webhook.content_type)
    fixed: list[str] = [config.webhook_secret] if config.webhook_secret else []
    scoped = (*config.scoped_secrets, *made_secrets(config))
    secrets = Secrets(github, fixed, config.webhook.secret_files, notice, by_file(scoped, github.name))
    found: list[tuple[Forge, Secrets]] = [(github, secrets)]
    for each in config.forges:
        fixed = [each.secret] if each.secret else []
        secrets = Secrets(each.forge, fixed, each.secret_files, notice, by_file(scoped, each.forge.name))
        found.append((each.forge, secrets))
    return found


def notices(config: Config, found: list[tuple[Forge, Secrets]]) -> list[str]:
    """Return the lines of which an operator should know at the start."""
    lines = [f"{problem}; it is left out" for problem in config.broken_forges]
    named = {each.forge.name for each in config.forges if each.named}
    if not any(secrets for _, secrets in found):
        lines.append("no webhook secret is configured: the webhook endpoint answers 404")
    for forge, secrets in found:
        if forge.name in named and not secrets:
            lines.append(
                f"forge {forge.name} has no webhook secret: its endpoint answers 404 (set secret_files in "
                f"[forges.{forge.name}], or {secret_variable(forge.name)})"
            )
        lines += secrets.doubts()
    return lines


def restore(forges: Forges, stored: StoredEvent) -> Event | RefsChanged | None:
    """Return an event as it was handed on the first time; None if its body is no longer kept.

    Raises StackitError where its forge is not installed any more.
    """
    if stored.body is None:
        return None
    if stored.kind == "refs":
        return decode_changes(stored)
    event = forges.restore(
        stored.event,
        stored.body,
        id=stored.id,
        delivery=stored.delivery or "",
        hook=stored.hook,
        received_at=stored.received_at,
    )
    if event is None or (stored.signer, stored.via) == (event.signer, event.via):
        return event
    return msgspec.structs.replace(event, signer=stored.signer, via=stored.via)
