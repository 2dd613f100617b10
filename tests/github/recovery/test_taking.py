"""A delivery that GitHub's API tells of, taken as an event."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from delivery_list import ListedHook
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.events import DeliveryResult, Event, Push
from stackit.api.occurrences import Occurrence
from stackit.github.recovery.records import Detail, Listed
from stackit.github.recovery.taking import Taker, compact

BODY = b'{"ref":"refs/heads/main","after":"%b","repository":{"name":"widget","owner":{"login":"octo"}}}' % (b"1" * 40)
SECRET = b"a-secret-of-the-app"


class Taking:
    """A taker, what it took, and what it told."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, bytes]] = []
        self.seen: list[Occurrence] = []
        self.max_body = 10_000
        self.result: DeliveryResult | Failure = DeliveryResult(id="17", duplicate=False, handled=True)
        self.taker = Taker(
            take=self._take,
            observe=self.seen.append,
            now=lambda: 5.0,
            speaks_for=self._speaks_for,
            verify=self._verify,
            max_body=lambda: self.max_body,
        )

    def _take(self, event: Event, digest: bytes, done: Callable[[Any], object]) -> None:
        self.events.append((event, digest))
        done(self.result)

    def _speaks_for(self, signer: str, event: Event) -> bool:
        return (signer, str(event.repo)) != ("app:main", "hubot/secret")

    def _verify(self, body: bytes, digest: bytes) -> str | None:
        signed = hmac.new(SECRET, body, hashlib.sha256).digest()
        return "/run/secrets/app" if hmac.compare_digest(signed, digest) else None

    def take(self, payload: bytes, event: str = "push", **headers: str) -> Any:
        named = {b"x-github-event": event, b"x-github-hook-id": "7"}
        named |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
        detail = Detail({name: (value.encode(),) for name, value in named.items()}, compact(msgspec.Raw(payload)))
        outcomes: list[Any] = []
        entry = Listed(1, "guid", 1.0, event)
        Deferred.fromCoroutine(self.taker.take(ListedHook(lambda: 0.0), entry, detail)).addBoth(outcomes.append)
        (outcome,) = outcomes
        return outcome


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()


def test_it_is_the_event_that_the_webhook_would_have_told_marked_as_taken_from_the_api() -> None:
    taking = Taking()
    assert taking.take(BODY) == "recovered"
    ((event, _),) = taking.events
    assert isinstance(event, Push)
    assert (str(event.repo), event.ref, event.after) == ("octo/widget", "refs/heads/main", "1" * 40)
    assert (event.delivery, event.hook, event.signer, event.via) == ("guid", "7", "app:main", "api")
    assert (event.received_at, event.body) == (5.0, BODY)
    (seen,) = taking.seen
    assert (seen.name, seen.outcome, seen.via, seen.id, seen.verified_by) == ("accepted", "queued", "api", "17", None)


def test_a_signature_that_fits_the_payload_without_its_blanks_is_told() -> None:
    taking = Taking()
    spaced = BODY.replace(b":", b" : ").replace(b",", b",\n  ")
    taking.take(spaced, x_hub_signature_256=signature(BODY))
    ((event, digest),) = taking.events
    assert event.body == BODY
    assert taking.seen[0].verified_by == "/run/secrets/app"
    assert digest == hashlib.sha256(hmac.new(SECRET, BODY, hashlib.sha256).digest()).digest()  # as the webhook has it


def test_a_signature_that_does_not_fit_any_more_is_no_reason_to_refuse() -> None:
    taking = Taking()
    assert taking.take(BODY, x_hub_signature_256=signature(b"the bytes that were sent")) == "recovered"
    assert taking.seen[0].verified_by is None


@pytest.mark.parametrize("payload", [b"null", b"[]", b'{"zen":"no push"}', b'{"repository":{"name":"../x"}}'])
def test_what_has_not_the_shape_of_its_event_is_not_taken(payload: bytes) -> None:
    taking = Taking()
    assert taking.take(payload) == "shape"
    assert taking.events == []
    (seen,) = taking.seen
    assert (seen.name, seen.outcome, seen.reason, seen.via) == ("accepted", "unrecognised", "shape", "api")


def test_what_its_signer_may_not_speak_for_is_not_taken() -> None:
    taking = Taking()
    assert taking.take(BODY.replace(b"widget", b"secret").replace(b"octo", b"hubot")) == "scope"
    assert taking.events == []


def test_what_is_larger_than_the_webhook_takes_is_not_taken() -> None:
    taking = Taking()
    taking.max_body = len(BODY) - 1
    assert taking.take(BODY) == "too_large"
    assert taking.events == []
    assert [each.name for each in taking.seen] == ["notice"]


def test_a_duplicate_and_a_journal_that_refuses() -> None:
    taking = Taking()
    taking.result = DeliveryResult(id="17", duplicate=True, handled=True)
    assert taking.take(BODY) == "duplicate"
    assert taking.seen[0].name == "duplicate"
    taking.result = Failure(JournalError("the disk is full"))
    assert taking.take(BODY).check(JournalError)


@pytest.mark.parametrize("text", [b'{"a": "\\u00e9 b",\n "n": 1.50, "big": 12345678901234567890123}', b"[ ]", b"7"])
def test_compacting_changes_nothing_but_blanks(text: bytes) -> None:
    found = compact(msgspec.Raw(text))
    assert found == text.replace(b": ", b":").replace(b", ", b",").replace(b",\n ", b",").replace(b"[ ]", b"[]")
