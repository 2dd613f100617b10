"""The stream of events of a whole stackit: an occurrence is seen as it happens, and a stop waits for no stream."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest_twisted
from memory_stream import parse_events
from outside import check_log, connect
from rawhttp import Client

from stackit.testing import RunningStackit


def told(client: Client) -> list[Any]:
    head, _, body = client.received.partition(b"\r\n\r\n")
    return parse_events(body.decode()) if head else []


@pytest_twisted.ensureDeferred
async def test_a_delivery_is_seen_as_it_comes_and_a_stop_waits_for_nobody_who_watches(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}, "grace": "1h"})
    client = await connect(server, urlsplit(server.admin_url).port)
    client.send(b"GET /api/v1/events?name=accepted HTTP/1.0\r\nHost: localhost\r\n\r\n")
    await client.until(lambda: b"retry" in client.received or None)
    assert "stackit_event_streams 1.0\n" in (await server.admin("GET", "/metrics")).body.decode()
    assert (await server.deliver("push", guid="seen")).status == 202
    await client.until(lambda: told(client) or None)
    (event,) = told(client)
    assert (event.name, event.data["delivery"]) == ("accepted", "seen")
    assert await server.stop() == 0
    await client.end()
    assert told(client) == [event]
    check_log(server.log)
