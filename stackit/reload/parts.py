"""The parts of a running stackit that take changed settings, each with the settings that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Protocol

import msgspec

from stackit import forges
from stackit.api.repos import ManagedRepo
from stackit.bus.bus import Bus
from stackit.bus.plugin_settings import OnSecret
from stackit.config.forges import ForgeConfig
from stackit.config.model import Config, secret_files
from stackit.dispatch.backoff import Backoff
from stackit.dispatch.dispatch import Dispatch, HandlerLimits
from stackit.registry import Registry
from stackit.registry.catalog import Build
from stackit.reload.plugins import prepare_plugins
from stackit.reload.reloader import Prepare, Reloader, Step
from stackit.secrets.redactor import Redactor
from stackit.web.admin.site import AdminSite, guard
from stackit.web.public import PublicSite
from stackit.web.sessions.sessions import Sessions

_MOST_NAMED = 20
"""Repositories that one line names."""


class Retention(Protocol):
    """A journal whose retention may change."""

    def change_retention(self, *, keep_for: float, keep_bytes: int) -> None:
        """Have ``prune`` keep to other bounds."""


def register_parts(
    reloader: Reloader,
    *,
    bus: Bus,
    redact: Redactor,
    public: PublicSite,
    admin: AdminSite,
    sessions: Sessions,
    dispatch: Dispatch,
    journal: Retention,
    registry: Registry,
    configured: Callable[[Config], tuple[Sequence[ManagedRepo], Build]],
    notice: Callable[[str], None],
    on_secret: OnSecret,
    set_log_level: Callable[[str | Mapping[str, str]], None],
    check_token: Callable[[Config], None],
    github: Prepare,
) -> None:
    """Have each part take its settings. A new setting is named here, or its annotation says ``restart``.

    ``github`` is that of all parts that work at GitHub. ``configured`` returns the repositories of a configuration, and
    what makes those that are not in it.
    """
    # Secrets of files are kept out of all that is said from here on.
    reloader.takes(
        _redaction(redact),
        *("webhook.secret_files", "admin.token_files", "forges", "repos", "owners", "hosts", "scoped_secrets", "apps"),
        *("discover", "login.client_secret_file"),
    )
    reloader.takes(_checked(check_token), "admin.token_files", "login.app")
    # Plugins may refuse: they are asked before anything else changes.
    reloader.takes(prepare_plugins(bus, on_secret), "plugins")
    reloader.takes(
        _webhooks(public, notice),
        *("webhook.secret_files", "webhook.content_type", "webhook.max_body", "webhook.deadline", "forges"),
        "scoped_secrets",
    )
    reloader.takes(
        _admin(admin, public, sessions),
        *("admin.hosts", "admin.token_files", "admin.url", "admin.cors_origins", "read_only"),
        *("login.viewers", "login.operators", "login.anonymous", "login.app", "login.client_id"),
        *("login.client_secret_file", "login.idle", "login.absolute"),
    )
    reloader.takes(
        _handlers(dispatch),
        *("handlers.timeout", "handlers.retry_for", "handlers.concurrency", "webhook.refuse_replays"),
    )
    reloader.takes(_journal(journal), "journal.keep_for", "journal.keep_bytes")
    reloader.takes(
        github,
        *("apps", "hosts", "public_url", "admin.url", "hooks.interval"),
        *("login.viewers", "login.operators", "login.app", "login.client_id", "login.client_secret_file"),
        *("discover", "discovery.interval", "discovery.max_removals", "discovery.min_repos"),
        *("recovery.enabled", "recovery.interval", "recovery.pause", "recovery.retention"),
    )
    reloader.takes(_repos(registry, configured), "repos", "owners", "hosts", "apps")
    reloader.takes(_log(set_log_level), "log_level")


def handler_limits(config: Config) -> HandlerLimits:
    """Return the limits of handlers that a configuration asks for."""
    return HandlerLimits(
        timeout=config.handlers.timeout,
        concurrency=config.handlers.concurrency,
        grace=config.grace,
        refuse_replays=config.webhook.refuse_replays,
    )


def backoff(config: Config) -> Backoff:
    """Return the delays of retries that a configuration asks for."""
    return Backoff(config.handlers.retry_for, Random())  # noqa: S311 - jitter, not a secret


def _redaction(redact: Redactor) -> Prepare:
    def prepare(_: Config, new: Config, __: Sequence[str]) -> Sequence[Step]:
        redact.add_files(secret_files(new))  # at once: a plugin that refuses its settings may repeat them
        return ()

    return prepare


def _checked(check: Callable[[Config], None]) -> Prepare:
    def prepare(_: Config, new: Config, __: Sequence[str]) -> Sequence[Step]:
        check(new)
        return ()

    return prepare


def _webhooks(public: PublicSite, notice: Callable[[str], None]) -> Prepare:
    def prepare(old: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        kept = [_kept_forge(each, new.forges) for each in old.forges]
        of_forges = [
            f"forges.{now.forge.name}.secret_files"
            for before, now in zip(old.forges, kept, strict=True)
            if before.secret_files != now.secret_files
        ]
        changes = [*(name for name in names if name not in ("forges", "scoped_secrets")), *of_forges]
        changes += [f"secret_files of {scope}" for scope in _other_scopes(old, new)]
        taken = msgspec.structs.replace(new, forges=tuple(kept))
        served = forges.with_secrets(taken, notice)

        def apply() -> None:
            public.change(taken, served)
            for line in forges.notices(taken, served):
                notice(line)

        return (
            Step(
                apply=apply if changes else lambda: None,
                changes=changes,
                restart=[f"forges.{name}" for name in _fixed_forges(old.forges, new.forges)],
                keep={"forges": taken.forges},
            ),
        )

    return prepare


def _other_scopes(old: Config, new: Config) -> list[str]:
    """Return the scopes that have other files of webhook secrets."""
    return sorted({each.scope for each in {*old.scoped_secrets} ^ {*new.scoped_secrets}})


def _kept_forge(old: ForgeConfig, found: Sequence[ForgeConfig]) -> ForgeConfig:
    """Return a forge as it goes on: with the files of its secrets that it has now, and its settings from the start."""
    new = next((each for each in found if each.forge.name == old.forge.name), None)
    return old if new is None else msgspec.structs.replace(old, secret_files=new.secret_files, named=new.named)


def _fixed_forges(old: Sequence[ForgeConfig], new: Sequence[ForgeConfig]) -> list[str]:
    """Return the forges that came, went, or have other settings."""
    before, now = ({each.forge.name: each.settings for each in forges} for forges in (old, new))
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _admin(admin: AdminSite, public: PublicSite, sessions: Sessions) -> Prepare:
    def prepare(_: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        changed = guard(new, sessions)

        def apply() -> None:
            admin.change_guard(changed)
            admin.change_reach(read_only=new.read_only, cors_origins=new.admin.cors_origins)
            sessions.change(idle=float(new.login.idle), absolute=float(new.login.absolute))
            public.change_about(new)

        return (Step(apply=apply, changes=names),)

    return prepare


def _handlers(dispatch: Dispatch) -> Prepare:
    def prepare(_: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        return (Step(apply=lambda: dispatch.change(handler_limits(new), backoff(new)), changes=names),)

    return prepare


def _journal(journal: Retention) -> Prepare:
    def prepare(_: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        keep_for, keep_bytes = new.journal.keep_for, new.journal.keep_bytes
        apply = partial(journal.change_retention, keep_for=keep_for, keep_bytes=keep_bytes)
        return (Step(apply=apply, changes=names),)

    return prepare


def _log(set_log_level: Callable[[str | Mapping[str, str]], None]) -> Prepare:
    def prepare(_: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        return (Step(apply=partial(set_log_level, new.log_level), changes=names),)

    return prepare


def _repos(registry: Registry, configured: Callable[[Config], tuple[Sequence[ManagedRepo], Build]]) -> Prepare:
    def prepare(_: Config, new: Config, __: Sequence[str]) -> Sequence[Step]:
        change = registry.difference(*configured(new))
        changed = {
            "added": [str(each.repo) for each in change.added],
            "removed": [str(each.repo) for each in change.removed],
            "changed": [str(each.repo) for each in change.changed],
            "renamed": [f"{old.repo} to {now.repo}" for old, now in change.moved],
        }
        clauses = [
            f"{what} {', '.join(found[:_MOST_NAMED])}"
            + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")
            for what, found in changed.items()
            if found
        ]
        # Their order in the file is no change of any.
        changes = [f"repos ({'; '.join(clauses)})"] if clauses else []
        return (Step(apply=lambda: registry.configure(*configured(new)), changes=changes),)

    return prepare
