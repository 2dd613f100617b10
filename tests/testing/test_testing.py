"""The test kit's deliveries and events."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from urllib.parse import parse_qs

import msgspec
import pytest

import stackit.testing
from stackit import Push, RefChange, Repo
from stackit.testing import EVENTS, delivery, event, payload_for, push_event, push_payload, refs_changed, signature
from stackit.testing.actions import ACTIONS

ZEROS = "0" * 40


def test_a_signature_is_the_one_of_githubs_documentation() -> None:
    found = signature(b"Hello, World!", "It's a Secret to Everybody")
    assert found == "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_a_delivery_has_githubs_headers() -> None:
    made = delivery("issues", secret="s3cret", guid="72d3162e-cc78-11e3-81ab-4c9367dc0958", hook_id=7)
    assert made.headers == {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": made.guid,
        "X-GitHub-Event": "issues",
        "X-GitHub-Hook-ID": "7",
        "X-GitHub-Hook-Installation-Target-ID": str(payload_for("issues")["repository"]["id"]),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature": "sha1=" + hmac.new(b"s3cret", made.body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(b"s3cret", made.body, hashlib.sha256).hexdigest(),
    }
    assert msgspec.json.decode(made.body)["action"] == "opened"


def test_a_form_delivery_is_signed_as_it_is_sent() -> None:
    made = delivery("push", {"ref": "refs/heads/ä&b=c"}, secret=b"s3cret", form=True)
    assert made.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert made.headers["X-Hub-Signature-256"] == f"sha256={signature(made.body, b's3cret')}"
    assert msgspec.json.decode(parse_qs(made.body.decode())["payload"][0]) == {"ref": "refs/heads/ä&b=c"}


def test_a_body_of_ones_own_goes_as_it_is() -> None:
    assert delivery("push", b"not json \xff", secret="s3cret").body == b"not json \xff"


def test_every_delivery_has_an_id_of_its_own() -> None:
    assert delivery("ping", secret="s").guid != delivery("ping", secret="s").guid


def test_the_kit_knows_every_documented_event() -> None:
    assert len(EVENTS) == len(set(EVENTS)) == 75
    assert set(ACTIONS) <= set(EVENTS)


@pytest.mark.filterwarnings("ignore:event 'ping'")
@pytest.mark.parametrize("name", EVENTS)
def test_every_event_becomes_a_signed_delivery_and_an_event(name: str) -> None:
    for action in ACTIONS.get(name, (None,)):
        payload = payload_for(name, action)
        assert payload.get("action") == action
        assert msgspec.json.decode(delivery(name, payload, secret="s").body) == payload
        made = event(name, action=action)
        assert (made.name, made.action) == (name, action)
        assert made.payload == payload
        assert str(made.repo) == "octo/widget" if "repository" in payload else made.repo is None


def test_a_payload_is_the_callers_to_change() -> None:
    payload_for("issues")["issue"]["labels"].append("spoilt")
    assert payload_for("issues")["issue"]["labels"] == []


def test_an_action_that_github_may_add_is_taken() -> None:
    assert payload_for("issues", "teleported")["action"] == "teleported"


def test_an_unknown_event_needs_a_payload() -> None:
    with pytest.raises(ValueError, match="no event 'sneeze'"):
        delivery("sneeze", secret="s")
    assert msgspec.json.decode(delivery("sneeze", {"loud": True}, secret="s").body) == {"loud": True}


def test_a_push_names_its_repository_in_githubs_ways() -> None:
    about = push_payload("Octo/Widget")["repository"]
    assert (about["full_name"], about["name"]) == ("Octo/Widget", "Widget")
    assert (about["owner"]["login"], about["owner"]["name"]) == ("Octo", "Octo")
    assert isinstance(about["pushed_at"], int)


def test_a_push_tells_creation_update_and_deletion_apart() -> None:
    made = push_payload(before=ZEROS)
    updated = push_payload()
    gone = push_payload(after=ZEROS)
    assert [(each["created"], each["deleted"]) for each in (made, updated, gone)] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert (gone["commits"], gone["head_commit"]) == ([], None)
    assert updated["head_commit"] == updated["commits"][-1]
    assert updated["compare"].endswith("/compare/111111111111...222222222222")


def test_events_for_handlers_are_what_the_bus_gives() -> None:
    push = push_event("octo/widget", "refs/tags/v1", ZEROS, "a" * 40)
    assert isinstance(push, Push)
    assert (push.ref, push.before, push.after, push.created, push.deleted) == (
        "refs/tags/v1",
        ZEROS,
        "a" * 40,
        True,
        False,
    )
    assert push.payload["head_commit"]["id"] == "a" * 40
    assert event("push") == event("push") or event("push").delivery == push.delivery


def test_ref_changes_are_of_the_kind_that_their_ids_say() -> None:
    change = refs_changed(
        changes=[
            ("refs/heads/a", ZEROS, "1" * 40),
            ("refs/heads/b", "1" * 40, "2" * 40),
            ("refs/heads/c", "2" * 40, ZEROS),
            RefChange("refs/heads/d", "1" * 40, "3" * 40, "updated", forced=True),
        ],
        cause="backstop",
        guid=None,
    )
    assert [each.kind for each in change.changes] == ["created", "updated", "deleted", "updated"]
    assert change.changes[-1].forced
    assert (change.repo, change.cause, change.delivery) == (Repo("octo", "widget"), "backstop", None)


def test_every_public_name_is_there() -> None:
    assert all(getattr(stackit.testing, name) for name in stackit.testing.__all__)
    with pytest.raises(AttributeError):
        stackit.testing.nothing  # noqa: B018 - the attribute is what is tried


def test_the_fixtures_load_without_reactor_and_web_client() -> None:
    heavy = "{'twisted.internet.reactor', 'treq', 'twisted.web.client'}"
    code = f"import sys, stackit.testing.fixtures; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
