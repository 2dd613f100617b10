"""The parts that take changed settings: forges, handlers, the bounds of a site, the rate limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from dispatch_harness import ByHand, Open, UnorderedByHand, harness
from twisted.internet.task import Clock

from stackit import Occurrence, RequestHead
from stackit.config.forges import ForgeConfig
from stackit.config.model import Config, HandlersConfig, WebhookConfig
from stackit.config.scopes import ScopedSecret
from stackit.dispatch.dispatch import HandlerLimits
from stackit.forges import with_secrets
from stackit.github import GitHub
from stackit.plugins.ratelimit import RateLimit
from stackit.reload.parts import backoff, handler_limits, register_parts
from stackit.reload.reloader import Reloader
from stackit.secrets.redactor import Redactor
from stackit.text.units import Duration, Size
from stackit.web.public import PublicSite, public_site

__all__ = ["harness"]


class Depot(GitHub):
    """Another forge, signed like GitHub's."""

    name = "depot"


class Receiving:
    """A public side with two forges, and a reload of it."""

    def __init__(self, directory: Path, config: Config) -> None:
        self.notices: list[str] = []
        reactor: Any = Clock()
        nobody: Any = None
        self.public: PublicSite = public_site(
            config,
            forges=with_secrets(config, self.notices.append),
            admit=lambda _: None,
            observe=lambda _: None,
            take=nobody,
            reactor=reactor,
            now=reactor.seconds,
            stuck=list,
        )
        self.redact = Redactor(files=[], seconds=reactor.seconds)
        self.reloader = Reloader(config)
        register_parts(
            self.reloader,
            bus=nobody,
            redact=self.redact,
            public=self.public,
            admin=nobody,
            sessions=nobody,
            dispatch=nobody,
            journal=nobody,
            registry=nobody,
            configured=nobody,
            notice=self.notices.append,
            on_secret=nobody,
            set_log_level=nobody,
            check_token=nobody,
            github=nobody,
        )

    def has_secret(self, forge: str) -> bool:
        return bool(self.public.webhooks[forge]._secrets)


def config(*forges: ForgeConfig, **more: Any) -> Config:
    return Config(state_dir=Path("/nowhere"), source=Path("/etc/x.conf"), forges=forges, **more)


def depot(*files: Path, **settings: Any) -> ForgeConfig:
    return ForgeConfig(forge=Depot(), named=True, secret_files=files, settings=settings)


def test_a_forge_gets_other_secrets_and_keeps_its_settings_until_the_restart(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-long-secret-of-a-depot")
    running = Receiving(tmp_path, config(depot()))
    first = running.public.webhooks["depot"]._forge
    assert not running.has_secret("depot")
    outcome = running.reloader.reload(config(depot(secret)))
    assert list(outcome.changes) == ["forges.depot.secret_files"]
    assert running.has_secret("depot")
    assert running.redact("it is a-long-secret-of-a-depot") == "it is ***"
    for _ in range(2):
        outcome = running.reloader.reload(config(depot(secret, host="elsewhere")))
        assert (list(outcome.changes), list(outcome.restart)) == ([], ["forges.depot"])
    assert running.public.webhooks["depot"]._forge is first


def test_a_forge_that_comes_or_goes_needs_a_restart(tmp_path: Path) -> None:
    running = Receiving(tmp_path, config(depot()))
    assert list(running.reloader.reload(config()).restart) == ["forges.depot"]
    assert [each.forge.name for each in running.reloader.config.forges] == ["depot"]
    running = Receiving(tmp_path, config())
    assert list(running.reloader.reload(config(depot())).restart) == ["forges.depot"]
    assert running.reloader.config.forges == ()


def test_the_bounds_of_bodies_and_their_content_type_change(tmp_path: Path) -> None:
    running = Receiving(tmp_path, config())
    bounds = WebhookConfig(max_body=Size(2**30), deadline=Duration(7), content_type="json")
    outcome = running.reloader.reload(config(webhook=bounds))
    assert sorted(outcome.changes) == ["webhook.content_type", "webhook.deadline", "webhook.max_body"]
    assert running.public.limits.deadline == 7
    assert running.public.limiter.memory == 2**31
    assert running.public.webhooks["github"]._max_body == 2**30
    form = {b"x-github-event": (b"push",), b"content-type": (b"application/x-www-form-urlencoded",)}
    forge = running.public.webhooks["github"]._forge
    assert forge.decode(form, b"payload={}", delivery="", hook="", received_at=0.0) == "content_type"


def test_a_webhook_that_loses_its_last_secret_is_told_of(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-long-secret-of-this-test")
    running = Receiving(tmp_path, config(webhook=WebhookConfig(secret_files=(secret,))))
    assert running.has_secret("github")
    running.reloader.reload(config())
    assert not running.has_secret("github")
    assert running.notices == ["no webhook secret is configured: the webhook endpoint answers 404"]


@pytest_twisted.ensureDeferred
async def test_more_concurrency_lets_what_waits_begin_and_less_ends_nothing(harness: Open) -> None:
    hand = UnorderedByHand()
    one = harness(mine=hand, concurrency=1)
    for _ in range(4):
        await one.take("octo/a")
    await one.quiet()
    assert hand.started == ["d1"]

    def limits(concurrency: int) -> HandlerLimits:
        return handler_limits(config(handlers=HandlersConfig(concurrency=concurrency)))

    one.dispatch.change(limits(3), backoff(config()))
    await one.quiet()
    assert hand.started == ["d1", "d2", "d3"]
    one.dispatch.change(limits(1), backoff(config()))
    hand.end("d1")
    hand.end("d2")
    await one.quiet()
    assert hand.started == ["d1", "d2", "d3"]
    hand.end("d3")
    await one.quiet()
    assert hand.started == ["d1", "d2", "d3", "d4"]
    hand.end("d4")
    await one.quiet()


@pytest_twisted.ensureDeferred
async def test_another_timeout_and_other_retries_hold_for_what_begins_after_them(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    short = config(handlers=HandlersConfig(timeout=Duration(2), retry_for=Duration(0)))
    one.dispatch.change(handler_limits(short), backoff(short))
    await one.take("octo/a")
    await one.quiet()
    await one.pass_time(3)
    await one.until(lambda: bool(one.outcomes("dead")))
    assert "2 s" in str(one.outcomes("dead")[0].error)


def test_the_rate_limit_takes_other_limits_and_keeps_what_was_spent() -> None:
    clock = Clock()
    plugin = RateLimit(RateLimit.Settings(burst=2, per_minute=1), clock=clock.seconds)
    head = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={})
    behind = RequestHead(client="10.0.0.1", method=b"POST", path=b"/", headers={b"x-forwarded-for": (b"192.0.2.1",)})
    for _ in range(2):
        plugin.stackit_observe(Occurrence(name="refused", status=401, client="192.0.2.1", request=head))
    assert plugin.stackit_admit(head) is not None
    assert plugin.stackit_admit(behind) is None
    plugin.stackit_reload(RateLimit.Settings(burst=2, per_minute=1, trusted_proxies=("10.0.0.0/8",)))
    assert plugin.stackit_admit(behind) is not None
    clock.advance(1)
    plugin.stackit_reload(RateLimit.Settings(burst=200, per_minute=1))
    assert plugin.stackit_admit(head) is None


def test_secrets_of_owners_and_repositories_are_taken_by_a_reload_and_named(tmp_path: Path) -> None:
    octo, widget = tmp_path / "octo", tmp_path / "widget"
    octo.write_text("the-secret-of-an-owner")
    widget.write_text("the-secret-of-a-repository")
    of_owner, of_repo = ScopedSecret("owner:octo", octo), ScopedSecret("repo:octo/widget", widget)
    receiving = Receiving(tmp_path, config(scoped_secrets=(of_owner,)))
    known = receiving.public.webhooks["github"].known_secrets
    assert known() == {str(octo): True}
    outcome = receiving.reloader.reload(config(scoped_secrets=(of_repo,)))
    assert outcome.changes == ["secret_files of owner:octo", "secret_files of repo:octo/widget"]
    assert outcome.restart == []
    assert known() == {str(widget): True}
    assert receiving.redact("it is the-secret-of-a-repository") == "it is ***"
    assert receiving.reloader.reload(config(scoped_secrets=(of_repo,))).changes == []
