"""Every row of the receiver's contract, over a real socket to the real process."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import msgspec
import pytest
import pytest_twisted
from outside import WEBHOOK, ask, connect, hang_up
from rawhttp import request
from waiting import until

from stackit.testing import EVENTS, SignedDelivery, delivery, payload_for, push_payload, signature
from stackit.testing.process import SECRET

PAYLOAD = msgspec.json.encode(payload_for("issues"))


def signed(body: bytes, event: str = "issues", **headers: str) -> dict[str, str]:
    made = delivery(event, body, secret=SECRET).headers
    return {name: value for name, value in {**made, **headers}.items() if value}


@pytest_twisted.ensureDeferred
async def test_a_handled_event_is_answered_202_with_its_ids(receiver: Any) -> None:
    answer = await receiver.server.deliver("issues", guid="one-good-delivery")
    assert answer.status == 202
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {"id": answer.json()["id"], "duplicate": False}
    receipt = await receiver.server.wait_for("one-good-delivery")
    assert receipt["id"] == answer.json()["id"]
    assert receiver.notebook.seen()["one-good-delivery"] == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_answered_405(receiver: Any, method: str) -> None:
    client = await connect(receiver.server)
    client.send(request(WEBHOOK, method))
    head = await client.until(lambda: client.received if b"\r\n\r\n" in client.received else None)
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST\r\n" in head
    await hang_up(client)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/", "/api", "/x", *(WEBHOOK + end for end in ("/", "/x", "%20", ";x"))])
async def test_only_the_exact_path_leads_to_the_webhook(receiver: Any, path: str) -> None:
    assert (await ask(receiver.server, request(path, "POST", signed(PAYLOAD), PAYLOAD))).status == 404
    spelled = WEBHOOK.replace("a", "%61", 1)
    assert (await ask(receiver.server, request(spelled, "POST", signed(PAYLOAD), PAYLOAD))).status == 404


@pytest_twisted.ensureDeferred
async def test_every_prefix_leads_to_the_same_webhook(receiver: Any) -> None:
    made = delivery("issues", secret=SECRET)
    first = await receiver.server.ask(
        "POST", f"{receiver.server.url}/api/webhooks/github", body=made.body, headers=made.headers
    )
    again = await receiver.server.post(made)
    assert (first.status, again.status) == (202, 202)
    assert again.json()["id"] == first.json()["id"]


@pytest_twisted.ensureDeferred
async def test_a_content_encoding_is_answered_415_but_identity_is_none(receiver: Any) -> None:
    for encoding, status in (("gzip", 415), ("br", 415), ("identity, gzip", 415), ("identity", 202)):
        headers = signed(PAYLOAD, **{"Content-Encoding": encoding})
        assert (await ask(receiver.server, request(WEBHOOK, "POST", headers, PAYLOAD))).status == status, encoding


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_cap_is_answered_413_before_it_is_read(receiver: Any) -> None:
    headers = signed(PAYLOAD, **{"Content-Length": str(2**20 + 1), "Expect": "100-continue"})
    answer = await ask(receiver.server, request(WEBHOOK, "POST", headers))
    assert answer.status == 413  # and no 100 before it


@pytest_twisted.ensureDeferred
async def test_a_body_that_turns_out_to_be_over_the_cap_is_answered_413(receiver: Any) -> None:
    client = await connect(receiver.server)
    client.send(request(WEBHOOK, "POST", signed(PAYLOAD, **{"Transfer-Encoding": "chunked"})))
    for _ in range(17):
        client.send(b"10000\r\n" + bytes(2**16) + b"\r\n")
    assert (await client.answer()).status == 413
    await client.end()


@pytest_twisted.ensureDeferred
async def test_a_body_of_just_the_cap_is_taken(receiver: Any) -> None:
    body = PAYLOAD[:-1] + b" " * (2**20 - len(PAYLOAD)) + b"}"
    assert (await receiver.server.deliver("issues", body)).status == 202


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("none", ""),
        ("another secret's", f"sha256={signature(PAYLOAD, 'another')}"),
        ("another body's", f"sha256={signature(PAYLOAD + b' ', SECRET)}"),
        ("upper case", f"sha256={signature(PAYLOAD, SECRET).upper()}"),
        ("a beginning of it", f"sha256={signature(PAYLOAD, SECRET)[:8]}"),
        ("more than it", f"sha256={signature(PAYLOAD, SECRET)}0"),
        ("sha1", f"sha1={signature(PAYLOAD, SECRET, 'sha1')}"),
        ("without its name", signature(PAYLOAD, SECRET)),
        ("not ASCII", "sha256=" + "\xe9" * 64),
        ("other digits", "sha256=" + "\u00b2" * 64),
        ("empty", "sha256="),
    ],
)
async def test_a_signature_that_is_not_right_is_answered_401_and_nothing_is_called(
    receiver: Any, name: str, value: str
) -> None:
    before = len(receiver.notebook.read())
    headers = signed(PAYLOAD, **{"X-Hub-Signature-256": value})
    answer = await ask(receiver.server, request(WEBHOOK, "POST", headers, PAYLOAD))
    assert answer.status == 401
    assert answer.json() == {"error": "the signature is missing or wrong"}
    assert await receiver.server.receipt(headers["X-GitHub-Delivery"]) is None
    assert len(receiver.notebook.read()) == before


@pytest_twisted.ensureDeferred
async def test_a_signature_that_is_there_twice_is_answered_401(receiver: Any) -> None:
    line = f"X-Hub-Signature-256: sha256={signature(PAYLOAD, SECRET)}\r\n".encode()
    once = request(WEBHOOK, "POST", signed(PAYLOAD), PAYLOAD)
    assert line in once
    assert (await ask(receiver.server, once.replace(line, 2 * line))).status == 401


@pytest_twisted.ensureDeferred
async def test_every_documented_event_is_accepted_as_what_it_is(receiver: Any) -> None:
    before = await receiver.server.metrics()
    for name in EVENTS:
        made = delivery(name, secret=SECRET)
        answer = await receiver.server.post(made)
        assert answer.status == (204 if name == "ping" else 202), name
        if name != "ping":
            await receiver.server.wait_for(made.guid)
            payload = msgspec.json.decode(made.body)
            note = next(note for note in receiver.notebook.read() if note["guid"] == made.guid)
            assert (note["event"], note["action"]) == (name, payload.get("action"))
            assert note["repo"] == (payload["repository"]["full_name"] if "repository" in payload else None)
    after = await receiver.server.metrics()
    assert {name for name in after if "unrecognised" in name and after[name] != before.get(name)} == set()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "action", ["deploy: prod", "sample.collected", "a/b=c d", 'say "é\U0001f600"', "\x00\n\x1b[2J"]
)
async def test_the_action_of_a_dispatch_arrives_as_its_sender_wrote_it(receiver: Any, action: str) -> None:
    made = delivery("repository_dispatch", secret=SECRET, action=action)
    assert (await receiver.server.post(made)).status == 202
    receipt = await receiver.server.wait_for(made.guid)
    note = next(note for note in receiver.notebook.read() if note["guid"] == made.guid)
    assert note["action"] == receipt["action"] == action


@pytest_twisted.ensureDeferred
async def test_a_push_of_an_owner_with_a_hyphen_in_front_is_handled(receiver: Any) -> None:
    made = delivery("push", push_payload("-octo/-widget"), secret=SECRET)
    assert (await receiver.server.post(made)).status == 202
    receipt = await receiver.server.wait_for(made.guid)
    note = next(note for note in receiver.notebook.read() if note["guid"] == made.guid)
    assert note["repo"] == receipt["repo"] == "-octo/-widget"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        'APPLICATION/JSON;charset="utf-8"; x=y',
        "application/x-www-form-urlencoded; charset=utf-8",
        "application/x-www-form-urlencoded",
    ],
)
async def test_json_and_forms_are_read_whatever_the_parameters_of_their_type(receiver: Any, content_type: str) -> None:
    form = "form" in content_type
    body = urlencode({"payload": PAYLOAD}).encode() if form else PAYLOAD
    headers = signed(body, **{"Content-Type": content_type})
    assert (await ask(receiver.server, request(WEBHOOK, "POST", headers, body))).status == 202
    await receiver.server.wait_for(headers["X-GitHub-Delivery"])
    note = receiver.notebook.read()[-1]
    assert (note["event"], note["action"], note["repo"]) == ("issues", "opened", "octo/widget")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("ping", msgspec.json.encode(payload_for("ping"))),
        ("push", b'{"ref": "refs/heads/main"}'),
        ("push", b'{"repository": null}'),
        ("push", b"null"),
        ("push", b"[]"),
        ("push", b""),
        ("push", b"{"),
        ("push", b'\xff\xfe{"a": 1}'),
        ("push", '{"ref": "refs/heads/main"}'.encode("utf-16")),
        ("push", b"\xef\xbb\xbf" + PAYLOAD),
        ("push", b"[" * 100_000 + b"]" * 100_000),
        ("push", b'{"a":' * 100_000),
        ("push", b'{"repository": {"full_name": 1' + b"0" * 5000 + b"}}"),
        ("push", b'{"repository": NaN}'),
        ("push", b'{"repository": {"full_name": "../../etc/passwd"}}'),
        ("push", b'{"repository": {"full_name": "-oX/-oProxyCommand=x"}}'),
        ("push", b'{"repository": {"full_name": "octo/wid\\u0000get"}}'),
        ("push", b'{"repository": {"full_name": "octo/wid\\nget"}}'),
        ("push", b'{"repository": {"full_name": "octo/\\ud800"}}'),
        ("push", b'{"repository": {"full_name": "octo/' + b"x" * 10_000 + b'"}}'),
        ("../push", PAYLOAD),
        ("", PAYLOAD),
        ("p\xfcsh", PAYLOAD),
        ("issues", b'{"action": 1}'),
    ],
    ids=lambda value: ascii(value)[:30],
)
async def test_what_is_signed_but_no_event_is_answered_204_and_reaches_nobody(
    receiver: Any, event: str, body: bytes
) -> None:
    seen, earlier = len(receiver.notebook.read()), receiver.notebook.seen()
    before = len(receiver.server.log)
    headers = signed(body, **{"X-GitHub-Event": event})
    assert (await ask(receiver.server, request(WEBHOOK, "POST", headers, body))).status == 204
    # What is sent next is handled, and the log has no more than the lines of the two.
    guid = str(uuid4())
    unlike_any_other = {**payload_for("issues"), "guid": guid}
    assert (await receiver.server.deliver("issues", unlike_any_other, guid=guid)).status == 202
    await receiver.server.wait_for(guid)
    assert len(receiver.notebook.read()) == seen + 1

    async def told() -> bool:
        return any("event handled" in line and guid in line for line in receiver.server.log.splitlines())

    await receiver.server.until(told, "the log to tell")
    # An earlier test may have sent the same body, which has a line of its own, or be told of its last delivery now.
    lines = [line for line in receiver.server.log[before:].splitlines() if "came back under" not in line]
    lines = [line for line in lines if not any(f" delivery={each} " in line for each in earlier)]
    assert len(lines) == 3, lines


@pytest_twisted.ensureDeferred
async def test_duplicate_keys_do_not_make_one_repository_of_two(receiver: Any) -> None:
    body = b'{"ref":"refs/heads/main","repository":{"full_name":"a/b"},"repository":{"full_name":"c/d"}}'
    answer = await receiver.server.deliver("push", body)
    assert answer.status in (202, 204)
    assert (await receiver.server.deliver("issues")).status == 202


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_comes_again_is_a_duplicate_and_handled_once(receiver: Any) -> None:
    made = delivery("issues", {**payload_for("issues"), "unlike any other": str(uuid4())}, secret=SECRET)
    first = await receiver.server.post(made)
    await receiver.server.wait_for(made.guid)
    second = await receiver.server.post(made)
    assert second.status == 202
    assert second.json() == {"id": first.json()["id"], "duplicate": True}
    # The same id from another hook is another delivery, and no replay.
    name = "stackit_deliveries_replayed_total"
    before = (await receiver.server.metrics())[name]
    other = SignedDelivery({**made.headers, "X-GitHub-Hook-ID": "7"}, made.body, made.guid)
    third = await receiver.server.post(other)
    assert third.json()["duplicate"] is False

    async def twice() -> bool:
        seen: int = receiver.notebook.seen()[made.guid]
        return seen == 2

    await receiver.server.until(twice, "the other hook's delivery to be handled")
    assert (await receiver.server.metrics())[name] == before


@pytest_twisted.ensureDeferred
async def test_a_signed_body_under_a_new_id_is_flagged(receiver: Any) -> None:
    made = delivery("issues", secret=SECRET, action="closed")
    name = "stackit_deliveries_replayed_total"
    await receiver.server.post(made)
    before = (await receiver.server.metrics())[name]
    again = SignedDelivery({**made.headers, "X-GitHub-Delivery": "made-up"}, made.body, "made-up")
    assert (await receiver.server.post(again)).status == 202
    assert (await receiver.server.metrics())[name] == before + 1
    told = " came back under a new delivery id"
    await until(lambda: any(told in line and "made-up" in line for line in receiver.server.log.splitlines()), "the log")


@pytest_twisted.ensureDeferred
async def test_what_anybody_may_know_is_public_and_the_rest_is_not(receiver: Any) -> None:
    server = receiver.server
    assert (await server.ask("GET", f"{server.url}/healthz")).status == 200
    about = (await server.ask("GET", f"{server.url}/api/v1/config")).json()
    assert set(about) == {"version", "read_only", "auth_required"}
    for path in ("/metrics", "/readyz", "/api/v1/repos", "/api/v1/deliveries"):
        assert (await server.ask("GET", server.url + path)).status == 404
        assert (await server.ask("GET", server.admin_url + path)).status == 200


@pytest_twisted.ensureDeferred
async def test_the_admin_side_wants_its_own_host_and_a_header_against_forgery(receiver: Any) -> None:
    server = receiver.server
    rebound = {"Host": "evil.example"}
    assert (await server.ask("GET", f"{server.admin_url}/metrics", headers=rebound)).status in (400, 403, 421)
    path = f"{server.admin_url}/api/v1/repos/octo/widget/sync"
    assert (await server.ask("POST", path)).status == 403
    assert (await server.ask("POST", path, headers={"X-Stackit-CSRF": "1"})).status == 404


@pytest_twisted.ensureDeferred
async def test_where_replays_are_refused_one_event_by_two_hooks_is_handled_once(running_stackit: Any) -> None:
    server = await running_stackit(config={"sync": {"interval": "0"}, "webhook": {"refuse_replays": True}})
    made = delivery("push", secret=SECRET)
    first = await server.post(made)
    other = await server.post(SignedDelivery({**made.headers, "X-GitHub-Hook-ID": "7"}, made.body, made.guid))
    assert (other.status, other.json()) == (202, {"id": first.json()["id"], "duplicate": True})
    replay = await server.post(SignedDelivery({**made.headers, "X-GitHub-Delivery": "z"}, made.body, "z"))
    assert replay.status == 409
    assert (await server.metrics())["stackit_deliveries_replayed_total"] == 1
    assert await server.stop() == 0
