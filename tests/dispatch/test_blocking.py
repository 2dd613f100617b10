"""Handlers that block the reactor are named, in whichever part of them."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from dispatch_harness import Open
from plugin_maker import plugin
from twisted.internet.task import deferLater

from stackit import on, sleep


@pytest_twisted.ensureDeferred
async def test_a_handler_that_blocks_the_reactor_is_named_with_its_delivery(harness: Open) -> None:
    @on("*")
    def plain(event: object) -> None:
        one.clock.advance(0.75)

    @on("*")
    async def at_once(event: object) -> None:
        one.clock.advance(2)

    @on("*")
    async def after_a_wait(event: object) -> None:
        await deferLater(one.reactor, 0)
        one.clock.advance(3)

    @on("*")
    async def fails_after_a_wait(event: object) -> None:
        try:
            await deferLater(one.reactor, 0, lambda: {"y": 1}["x"])
        except KeyError:
            one.clock.advance(4)
            raise

    @on("*")
    async def waits(event: object) -> None:
        await deferLater(one.reactor, 0)

    one = harness(mine=plugin(plain, at_once, after_a_wait, fails_after_a_wait, waits), retry_for=0)
    taken = await one.take("octo/widget", delivery="guid")
    await one.until(lambda: len(one.outcomes("handled")) == 4 and len(one.outcomes("dead")) == 1)
    told = {each.subscriber: each for each in one.outcomes("blocked")}
    assert {key: each.seconds for key, each in told.items()} == {
        "mine:plain": 0.75,
        "mine:at_once": 2,
        "mine:after_a_wait": 3,
        "mine:fails_after_a_wait": 4,
    }
    assert {(each.delivery, each.id, str(each.repo), each.event) for each in told.values()} == {
        ("guid", taken.id, "octo/widget", "issues")
    }


@pytest_twisted.ensureDeferred
async def test_a_handler_that_blocks_each_time_is_named_once_a_minute(harness: Open) -> None:
    @on("*")
    def handle(event: Any) -> None:
        one.clock.advance(0.6)

    one = harness(mine=handle)
    for _ in range(3):
        await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 3)
    assert len(one.outcomes("blocked")) == 1
    await one.pass_time(60)
    await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 4)
    assert len(one.outcomes("blocked")) == 2


@pytest_twisted.ensureDeferred
async def test_a_handler_that_waits_or_has_a_thread_blocks_nothing(harness: Open) -> None:
    @on("*")
    async def waits(event: object) -> None:
        await sleep(one.clock, 5)

    @on("*", thread=True)
    def works(event: object) -> None:
        one.clock.rightNow += 0.7

    one = harness(mine=plugin(waits, works))
    await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 1)
    await one.pass_time(5)
    await one.until(lambda: len(one.outcomes("handled")) == 2)
    assert one.outcomes("blocked") == []
