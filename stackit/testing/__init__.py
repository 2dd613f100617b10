"""The test kit for plugins: no GitHub, no network, no account.

A handler by itself needs an event only::

    from stackit.testing import push_event

    async def test_main_is_deployed(rolled_out):
        await deploy(push_event("octo/widget", after="a" * 40))
        assert rolled_out == ["a" * 40]

A plugin at work needs stackit, and perhaps a GitHub; both are pytest fixtures (``pip install stackit[test]``)::

    import pytest_twisted

    @pytest_twisted.ensureDeferred
    async def test_a_push_reaches_my_plugin(running_stackit, pretend_github):
        url = await pretend_github.create("octo/widget")
        stackit = await running_stackit(
            config={"repos": [{"name": "octo/widget", "url": url}], "plugins": {"mine": {"module": "mine:Mine"}}},
            plugins=Path(__file__).parent,
        )
        pretend_github.webhook(stackit.webhook_url, stackit.secret)
        sent = await pretend_github.push("octo/widget")
        receipt = await stackit.wait_for(sent.guid)
        assert {each["subscriber"]: each["state"] for each in receipt["handlings"]}["mine"] == "done"
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stackit.testing.catalogue import EVENTS, payload_for
from stackit.testing.deliveries import SignedDelivery, delivery, signature
from stackit.testing.objects import Commit, organization, push_payload, repository, user
from stackit.testing.values import event, push_event, refs_changed

if TYPE_CHECKING:
    from stackit.testing.bare import GitFailed, RefMoved
    from stackit.testing.fleet import RunningFleet
    from stackit.testing.fleet_node import FleetNode
    from stackit.testing.github import PretendGitHub
    from stackit.testing.http_client import Answer
    from stackit.testing.postgres import PostgresFailed, PostgresServer
    from stackit.testing.process import StackitFailed
    from stackit.testing.server import RunningStackit
    from stackit.testing.webhooks import DeliverySent

__all__ = [
    "EVENTS",
    "Answer",
    "Commit",
    "DeliverySent",
    "FleetNode",
    "GitFailed",
    "PostgresFailed",
    "PostgresServer",
    "PretendGitHub",
    "RefMoved",
    "RunningFleet",
    "RunningStackit",
    "SignedDelivery",
    "StackitFailed",
    "delivery",
    "event",
    "organization",
    "payload_for",
    "push_event",
    "push_payload",
    "refs_changed",
    "repository",
    "signature",
    "user",
]

# pytest imports this package at every start, for its fixtures: what needs a web client waits until it is used.
_AT_FIRST_USE = {
    "Answer": "http_client",
    "DeliverySent": "webhooks",
    "FleetNode": "fleet_node",
    "GitFailed": "bare",
    "PostgresFailed": "postgres",
    "PostgresServer": "postgres",
    "PretendGitHub": "github",
    "RefMoved": "bare",
    "RunningFleet": "fleet",
    "RunningStackit": "server",
    "StackitFailed": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _AT_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_AT_FIRST_USE[name]}"), name)
