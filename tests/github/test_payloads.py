"""From signed bytes to events, or to nothing."""

from __future__ import annotations

import json
import math
import tracemalloc
from random import Random
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit.api.events import Event, Push, Repo
from stackit.api.refs import is_ref
from stackit.github.event_types import NULLABLE, REQUIRED
from stackit.github.payloads import decode, json_text
from stackit.testing.catalogue import EVENTS, payload_for

ODD_OWNERS: list[Any] = ["x", 5, -1.5, 2**70, True, [], [{}], {}]
NO_ACTIONS: list[Any] = [None, 5, [], {}]
SHA, NEW = "1" * 40, "2" * 40
REPOSITORY = {"name": "widget", "full_name": "octo/widget", "owner": {"login": "octo", "name": "other"}}
PUSH: dict[str, Any] = {"ref": "refs/heads/main", "before": SHA, "after": NEW, "forced": True, "repository": REPOSITORY}


def event(name: str, payload: Any) -> Event | None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decode(name, body, id="7", delivery="d", hook="1", received_at=5.0)


def push(**changes: Any) -> Push | None:
    found = event("push", {**PUSH, **changes})
    assert found is None or isinstance(found, Push)
    return found


def test_a_push_is_typed() -> None:
    found = push()
    assert found is not None
    assert (found.name, found.id, found.delivery, found.hook, found.received_at) == ("push", "7", "d", "1", 5.0)
    assert (found.repo, found.ref, found.before, found.after) == (Repo("octo", "widget"), "refs/heads/main", SHA, NEW)
    assert (found.created, found.deleted, found.forced) == (False, False, True)
    assert found.payload == PUSH


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        (REPOSITORY, "octo/widget"),
        ({"name": "w", "owner": {"name": "octo"}}, "octo/w"),
        ({"name": "w", "owner": {"login": None, "name": "octo"}}, "octo/w"),
        ({"name": "w", "full_name": "octo/x"}, "octo/w"),
        ({"full_name": "octo/w"}, "octo/w"),
        ({"name": "-w", "owner": {"login": "-octo"}}, "-octo/-w"),
        ({"name": ".github", "owner": {"login": "octo_corp"}}, "octo_corp/.github"),
        ({"full_name": "octo/w", "owner": None, "name": 5}, "octo/w"),
        ({"full_name": "octo/w", "owner": {"login": 5, "name": ["x"]}}, "octo/w"),
        *(({"full_name": "octo/w", "owner": owner}, "octo/w") for owner in ODD_OWNERS),
    ],
)
def test_the_repository_is_found_wherever_a_push_names_it(repository: Any, expected: str) -> None:
    found = push(repository=repository)
    assert found is not None
    assert str(found.repo) == expected


def test_a_number_beyond_a_float_in_an_owner_hides_it_from_nobody() -> None:
    found = event("push", b'{"repository": {"name": "w", "owner": {"id": 1e999, "login": "octo"}}}')
    assert found is not None
    assert str(found.repo) == "octo/w"


@pytest.mark.parametrize("login", ["dependabot[bot]", "-octo", "octo_corp", "Copilot", ""])
def test_whoever_pushed_a_push_is_one(login: str) -> None:
    assert push(sender={"login": login}, pusher={"name": login}) is not None


@pytest.mark.parametrize("key", ["ref", "before", "after", "created"])
def test_a_number_beyond_a_float_where_none_belongs_is_as_good_as_none(key: str) -> None:
    body = b'{"%s": 1e999, "repository": {"full_name": "octo/w"}}' % key.encode()
    found = event("push", body if key == "ref" else body.replace(b"{", b'{"ref": "refs/heads/main", ', 1))
    assert isinstance(found, Push)
    assert getattr(found, key) in (None, False)


@pytest.mark.parametrize(
    "repository",
    [
        None,
        [],
        "octo/widget",
        {},
        {"name": "widget"},
        {"full_name": "widget"},
        {"full_name": "../x"},
        {"full_name": "octo/.."},
        {"full_name": "-o=X/w"},
        {"full_name": "octo/a/b"},
        {"full_name": "octo/a\x00b"},
        {"full_name": "octo/a\nb"},
        {"full_name": "octo/" + "a" * 10_000},
        {"owner": {"login": "octo/evil"}, "name": "w"},
        {"owner": {"login": "octo"}, "name": "../../etc"},
        {"owner": {"login": "git.example.org"}, "name": "a/b"},
        {"full_name": "git.example.org/a/b"},
        {"full_name": "git.example.org+a/b"},
    ],
)
def test_a_push_without_a_repository_that_can_be_is_none(repository: Any) -> None:
    assert push(repository=repository) is None


def test_a_push_without_a_ref_is_still_a_push() -> None:
    found = event("push", {"repository": REPOSITORY})
    assert isinstance(found, Push)
    assert (found.ref, found.before, found.after, found.created) == (None, None, None, False)


@pytest.mark.parametrize(
    "ref",
    [
        None,
        5,
        [],
        "",
        "main",
        "heads/main",
        "refs/",
        "refs/heads/../x",
        "-oX",
        "refs/heads/a\nb",
        "refs/heads/a\x00b",
        "refs/heads/" + "x" * 10_000,
        "refs/heads/a b",
        "refs/heads/x.lock",
        "refs/heads/@{1}",
        "refs/heads//x",
    ],
)
def test_a_hostile_ref_is_no_ref(ref: Any) -> None:
    found = push(ref=ref)
    assert found is not None
    assert found.ref is None


@pytest.mark.parametrize("sha", [None, 5, "", "1" * 39, "1" * 41, "A" * 40, "g" * 40, "1" * 40 + "\n", "--upload-pack"])
def test_a_hostile_object_id_is_none(sha: Any) -> None:
    found = push(before=sha, after=sha)
    assert found is not None
    assert (found.before, found.after) == (None, None)


def test_an_object_id_may_be_sha256() -> None:
    found = push(after="a" * 64)
    assert found is not None
    assert found.after == "a" * 64


HOSTILE = {
    "empty": b"",
    "white space": b"  ",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"push"',
    "two objects": b"{}{}",
    "trailing comma": b'{"repository": {"full_name": "o/w"},}',
    "cut off": b'{"repository": {"full_name": "o/w"}',
    "utf-8 with bom": b"\xef\xbb\xbf" + json.dumps(PUSH).encode(),
    "utf-16": json.dumps(PUSH).encode("utf-16"),
    "utf-16 without bom": json.dumps(PUSH).encode("utf-16-le"),
    "utf-32": json.dumps(PUSH).encode("utf-32"),
    "invalid utf-8": json.dumps(PUSH).encode()[:-1] + b', "x": "\xff"}',
    "encoded surrogate": json.dumps(PUSH).encode()[:-1] + b', "x": "\xed\xa0\x80"}',
    "lone surrogate": json.dumps(PUSH).encode()[:-1] + b', "x": "\\ud800"}',
    "lone surrogate as key": json.dumps(PUSH).encode()[:-1] + b', "\\udfff": 1}',
    "nested brackets": b"[" * 100_000,
    "nested and closed": json.dumps(PUSH).encode()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"a":' * 100_000,
    "nan": json.dumps(PUSH).encode()[:-1] + b', "x": NaN}',
    "infinity": json.dumps(PUSH).encode()[:-1] + b', "x": -Infinity}',
    "control characters": json.dumps(PUSH).encode()[:-1] + b', "x": "\x00"}',
    "every byte": bytes(range(256)),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", ["push", "issues", "something_new"])
def test_a_hostile_body_is_no_event(name: str, body: bytes) -> None:
    assert event(name, body) is None


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (b"1" * 5000, math.inf),
        (b"-1e999", -math.inf),
        (b"1e999", math.inf),
        (b"1" * 300, int("1" * 300)),
        (b"[18446744073709551616, -1.5e-999]", [2**64, 0.0]),
    ],
)
def test_a_number_beyond_a_float_keeps_no_push_from_its_handlers(number: bytes, found: object) -> None:
    push = event("push", json.dumps(PUSH).encode()[:-1] + b', "x": ' + number + b"}")
    assert push is not None
    assert push.payload["x"] == found
    assert push.payload["repository"] == PUSH["repository"]


def test_what_is_passed_over_is_json_all_the_same() -> None:
    """The partial decode and the full one agree on whatever random damage does to a payload."""
    random = Random(1)
    text = json.dumps({**PUSH, "x": [1, -2.5e10, True, None, "\n\U0001f600"], "é": {}})
    sound = text.replace("\\u00e9", "é").encode()
    pieces = [b"\\", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u", b"\\ud800", b"1.", b"01", b"-", b"tru", b"\x00"]
    pieces += [b"\x1f", b"\xff", b"\xc3", b"\xed\xa0\x80", b"NaN", b"[" * 2000, b" ", b"/", b"'"]
    told_apart = 0
    for _ in range(20_000):
        body = bytearray(sound)
        for _ in range(random.choice((1, 1, 2))):
            at = random.randrange(len(body))
            body[at : at + random.choice((0, 1, 4))] = random.choice((b"", *pieces))
        try:
            json.loads(body.decode())
            msgspec.json.decode(body)
            is_json = True
        except (ValueError, msgspec.DecodeError, RecursionError):
            is_json = False
        told_apart += not is_json
        if event("something_new", bytes(body)) is not None:
            assert is_json
    assert 10_000 < told_apart < 20_000


def test_a_push_that_is_read_at_once_and_one_that_takes_a_closer_look_say_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(2)
    sound = json.dumps({**PUSH, "created": True, "é": {}}, ensure_ascii=False).encode()
    pieces = [
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"1e999",
        b'"action"',
        b'"zen":1,',
        b"\xff",
        b" ",
        b"/",
    ]
    bodies = []
    for _ in range(5000):
        body = bytearray(sound)
        at = random.randrange(len(body))
        body[at : at + random.choice((0, 1, 9))] = random.choice((b"", *pieces))
        bodies.append(bytes(body))
    others = [json.dumps(payload_for(name)).encode() for name in EVENTS]
    at_once = [event("push", body) for body in (*bodies, *others)]
    monkeypatch.setattr("stackit.github.payloads._push_fields", lambda _body: None)
    closer = [event("push", body) for body in (*bodies, *others)]
    said = [[push and msgspec.structs.asdict(push) for push in pushes] for pushes in (at_once, closer)]
    assert said[0] == said[1]
    assert 500 < at_once.count(None) < 4500


def test_of_a_key_that_is_there_twice_the_last_counts_everywhere() -> None:
    found = event("push", b'{"ref": "refs/heads/a", "ref": "refs/heads/b", "repository": {"full_name": "o/w"}}')
    assert isinstance(found, Push)
    assert found.ref == "refs/heads/b" == found.payload["ref"]


@pytest.mark.parametrize("name", ["", "Push", "push ", "../push", "push\n", "a" * 65, "push.x", "é"])
def test_an_event_name_that_github_would_not_use_is_none(name: str) -> None:
    assert event(name, PUSH) is None


def test_the_test_kit_knows_the_same_events() -> None:
    assert set(EVENTS) == set(REQUIRED)


@pytest.mark.parametrize("name", EVENTS)
def test_every_documented_event_is_recognised_with_its_action_and_repository(name: str) -> None:
    payload = payload_for(name)
    found = event(name, payload)
    assert found is not None
    assert found.action == payload.get("action")
    assert (found.repo is not None) == ("repository" in payload)


# Their payloads do not differ at the top.
ALIKE = [
    {"dependabot_alert", "repository_vulnerability_alert", "secret_scanning_alert"},
    {"public", "push"},
    {"watch", "repository"},
    {"branch_protection_configuration", "repository"},
]


@pytest.mark.parametrize("name", EVENTS)
def test_a_body_under_the_name_of_another_event_is_none(name: str) -> None:
    payload = payload_for(name)
    taken_for = {other for other in EVENTS if other != name and event(other, payload) is not None}
    assert taken_for <= {other for group in ALIKE if name in group for other in group}


@pytest.mark.parametrize("name", EVENTS)
def test_null_where_an_object_is_due_is_no_such_event(name: str) -> None:
    payload = payload_for(name)
    for key in REQUIRED[name] - NULLABLE:
        if isinstance(payload[key], dict) and payload[key]:
            assert event(name, {**payload, key: None}) is None, key


@pytest.mark.parametrize("name", [each for each in EVENTS if "action" in REQUIRED[each]])
def test_an_action_that_is_no_text_is_no_such_event(name: str) -> None:
    for action in NO_ACTIONS:
        assert event(name, {**payload_for(name), "action": action}) is None


REPOSITORY_BESIDE = {"repository": REPOSITORY, "organization": {"login": "octo"}, "installation": {"id": 7}}
WHOLE = payload_for("installation")["installation"]

# Beside what payload_for makes: what make test-shapes found in GitHub's own descriptions and examples.
ODD_SHAPES = {
    "deployment of Enterprise Server 3.5": ("deployment", {"deployment": {}, "repository": REPOSITORY}),
    "deployment_status of Enterprise Server 3.5": (
        "deployment_status",
        {"deployment": {}, "deployment_status": {}, "repository": REPOSITORY},
    ),
    "member whose account is gone": ("member", {**payload_for("member"), "member": None}),
    "membership whose account is gone": ("membership", {**payload_for("membership"), "member": None}),
    "org_block of an account that is gone": ("org_block", {**payload_for("org_block"), "blocked_user": None}),
    "installation with a repository": (
        "installation",
        {**payload_for("installation"), **REPOSITORY_BESIDE, "installation": WHOLE},
    ),
    **{
        f"organization.{action} with a repository": (
            "organization",
            {**payload_for("organization", action), **REPOSITORY_BESIDE, told: {}},
        )
        for action, told in (
            ("deleted", "membership"),
            ("member_added", "membership"),
            ("member_invited", "invitation"),
            ("renamed", "membership"),
        )
    },
    "organization with a new login and a repository": (
        "organization",
        {**payload_for("organization", "renamed"), **REPOSITORY_BESIDE},
    ),
    "repository of an App": ("repository", {**payload_for("repository"), **REPOSITORY_BESIDE}),
    "repository.anonymous_access_enabled": ("repository", {"action": "anonymous_access_enabled"}),
    "ping that says nothing": ("ping", {}),
    "ping of a hook": ("ping", {"hook": {}, "repository": REPOSITORY}),
}


@pytest.mark.parametrize(("name", "payload"), ODD_SHAPES.values(), ids=ODD_SHAPES.keys())
def test_every_shape_that_github_describes_is_recognised(name: str, payload: dict[str, Any]) -> None:
    found = event(name, payload)
    assert found is not None
    assert found.action == payload.get("action")
    assert str(found.repo) == ("octo/widget" if "repository" in payload else "None")


@pytest.mark.parametrize(("name", "payload"), ODD_SHAPES.values(), ids=ODD_SHAPES.keys())
def test_an_odd_shape_under_the_name_of_another_event_is_none(name: str, payload: dict[str, Any]) -> None:
    assert [other for other in EVENTS if other != name and event(other, payload) is not None] == []


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("member", {**payload_for("member"), "member": []}),
        ("org_block", {**payload_for("org_block"), "blocked_user": "hubot"}),
        ("deployment", {**payload_for("deployment"), "action": 5}),
        ("deployment", {**payload_for("deployment"), "deployment": None}),
        ("installation", {**payload_for("installation"), **REPOSITORY_BESIDE}),
        ("organization", {**payload_for("organization", "deleted"), "repository": REPOSITORY}),
        ("repository", {**payload_for("repository"), "installation": WHOLE}),
        ("repository", {"action": "created"}),
        ("organization", {**payload_for("repository", "renamed"), **REPOSITORY_BESIDE}),
        ("repository", {**payload_for("repository", "renamed"), "changes": {"login": {"from": "octo-old"}}}),
        ("repository", {**payload_for("repository"), "membership": {}}),
        ("ping", {"repository": REPOSITORY}),
        ("ping", PUSH),
    ],
)
def test_what_comes_near_to_an_odd_shape_is_none(name: str, payload: dict[str, Any]) -> None:
    assert event(name, payload) is None


def test_an_event_that_is_not_documented_yet_is_accepted() -> None:
    found = event("something_new", {"action": "appeared", "repository": REPOSITORY})
    assert found is not None
    assert (str(found), str(found.repo)) == ("something_new.appeared", "octo/widget")


@pytest.mark.parametrize(
    "action", ["deploy: prod", "sample.collected", "a/b", " ", "*", '"x"', "a\nb", "\x00", "é\U0001f600", "x" * 100]
)
def test_the_action_of_a_dispatch_is_whatever_its_sender_chose(action: str) -> None:
    found = event("repository_dispatch", payload_for("repository_dispatch", action))
    assert found is not None
    assert found.action == action


@pytest.mark.parametrize("action", [None, 5, {}, "", "x" * 129])
def test_an_action_that_is_no_text_or_too_much_of_it_is_none(action: Any) -> None:
    found = event("something_new", {"action": action})
    assert found is not None
    assert found.action is None


TEXT = json.dumps({**PUSH, "message": "1 + 1 = 2 & more; é"}).encode()
FORM = urlencode({"payload": TEXT}).encode()


@pytest.mark.parametrize(
    "kind", [None, b"application/json", b"Application/JSON; charset=utf-8", b" application/json ;x"]
)
def test_json_is_taken_as_it_is(kind: bytes | None) -> None:
    assert json_text(TEXT, kind, "any") == TEXT


URLENCODED = b"application/x-www-form-urlencoded"


@pytest.mark.parametrize("kind", [URLENCODED, b"APPLICATION/x-www-FORM-urlencoded;charset=x"])
def test_a_form_holds_json_in_its_payload_field(kind: bytes) -> None:
    assert json_text(FORM, kind, "any") == TEXT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload",
        b"x=1",
        TEXT,
        FORM + b"&" + FORM,
        FORM + b"&x=1",
        FORM + b"&",
        b"x=1&" + FORM,
        b"&" + FORM,
        b" " + FORM,
        b"Payload=" + FORM[8:],
        b"%70ayload=" + FORM[8:],
        b"payload =" + FORM[8:],
        b"&" * 100_000 + FORM,
    ],
)
def test_a_form_has_one_field_and_nothing_else(body: bytes) -> None:
    assert json_text(body, URLENCODED, "any") is None


@pytest.mark.parametrize("place", ["ref", "message", "x&payload=%7B%7D&y"])
def test_json_that_is_said_to_be_a_form_is_nothing_whatever_it_has_inside(place: str) -> None:
    inside = f"x&{urlencode({'payload': json.dumps(PUSH)})}&y"
    for text in (inside, inside + "&" * 20, "payload=%7B%7D"):
        body = json.dumps({place: text, **PUSH}).encode()
        assert json_text(body, URLENCODED, "any") is None
        assert json_text(body, b"application/json", "any") == body


def test_a_form_that_is_said_to_be_json_is_no_event() -> None:
    for kind in (None, b"application/json"):
        assert json_text(FORM, kind, "any") == FORM
    assert event("push", FORM) is None


def test_a_webhook_may_take_only_one_of_the_two() -> None:
    assert json_text(TEXT, None, "form") is json_text(TEXT, b"application/json", "form") is None
    assert json_text(FORM, URLENCODED, "json") is None
    assert json_text(FORM, URLENCODED, "form") == json_text(TEXT, None, "json") == TEXT


def test_the_escapes_of_a_form_are_read_as_urllib_reads_them() -> None:
    random = Random(10)
    for _ in range(300):
        value = random.randbytes(random.randrange(200))
        quoted = quote_plus(value) if random.random() < 0.5 else "".join(f"%{byte:02x}" for byte in value)
        assert json_text(b"payload=" + quoted.encode(), URLENCODED, "any") == value
    assert json_text(b"payload=a=b_c==3d%3D", URLENCODED, "any") == b"a=b_c==3d="


@pytest.mark.parametrize("value", ["%", "%4", "%zz", "%%41", "%4g", "a%=41", "%41%", "%\n", "%\r\n", "%%%%", "%\n%zz"])
def test_an_escape_that_is_none_is_refused(value: str) -> None:
    assert json_text(f"payload={value}".encode(), URLENCODED, "any") is None


@pytest.mark.parametrize("unit", [b"%22", b"+", b"x", b"=", b"%", b"%2"])
def test_a_form_is_read_in_memory_that_its_size_bounds(unit: bytes) -> None:
    body = b"payload=" + unit * (3_000_000 // len(unit))
    tracemalloc.start()
    json_text(body, URLENCODED, "any")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(body)


def test_the_keys_of_a_body_are_not_remembered() -> None:
    event("issues", payload_for("issues"))
    tracemalloc.start()
    for number in range(10):
        strange = {f"{number}-{key}": 0 for key in range(10_000)}
        assert event("issues", payload_for("issues") | strange) is not None
        del strange
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 500_000


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"multipart/form-data; boundary=x", b"", b"\xff", b"application/json2"]
)
def test_no_other_type_holds_an_event(kind: bytes) -> None:
    assert json_text(TEXT, kind, "any") is None


# -- properties -------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(sorted({key for keys in REQUIRED.values() for key in keys} | {"before", "after", "owner"}))
NAMES = st.sampled_from(sorted(REQUIRED)) | st.text(max_size=10)


@given(NAMES, st.binary(max_size=300))
def test_bytes_are_an_event_or_none_whatever_they_are(name: str, body: bytes) -> None:
    found = event(name, body)
    assert found is None or isinstance(found.payload, dict)


@given(NAMES, st.dictionaries(KEYS, JSON_VALUES | st.just(REPOSITORY)))
def test_a_json_object_is_an_event_or_none_whatever_is_in_it(name: str, payload: dict[str, Any]) -> None:
    found = event(name, payload)
    if found is None:
        return
    assert found.name == name
    assert found.repo is None or (Repo.parse(str(found.repo)) == found.repo and not found.repo.host)
    if isinstance(found, Push):
        assert found.repo is not None
        assert found.ref is None or is_ref(found.ref)


@given(st.sampled_from(sorted(EVENTS)), st.data())
def test_an_event_that_is_cut_or_changed_anywhere_never_raises(name: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(payload_for(name)).encode())
    at = data.draw(st.integers(0, len(body)))
    body[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=5))
    found = event(name, bytes(body))
    assert found is None or found.name == name


@given(st.binary(max_size=200))
def test_a_form_gives_back_what_a_browser_put_in(text: bytes) -> None:
    form = b"payload=" + quote_plus(text).encode()
    assert json_text(form, b"application/x-www-form-urlencoded", "any") == text


@given(st.binary(max_size=100))
def test_a_form_that_was_made_by_nobody_is_read_as_urllib_does_or_not_at_all(value: bytes) -> None:
    found = json_text(b"payload=" + value, b"application/x-www-form-urlencoded", "any")
    assert found in (None, unquote_to_bytes(value.replace(b"+", b" ")))


@given(st.text(max_size=40) | st.lists(st.text("a.@{/*~", max_size=4), max_size=4).map("/".join))
def test_a_name_that_is_taken_for_a_ref_can_be_a_file_below_a_repository(text: str) -> None:
    name = f"refs/{text}"
    if is_ref(name):
        parts = name.split("/")
        assert all(part and not part.startswith(".") and not part.endswith(".lock") for part in parts)
        assert {"*", "?", "[", "\\", "^", "~", ":", " "}.isdisjoint(name)
        assert ".." not in name
        assert "@{" not in name


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (b"1296269", 1296269),
        (b"0", None),
        (b"-1", None),
        (b"true", None),
        (b'"7"', None),
        (b"7.5", None),
        (b"[]", None),
    ],
)
def test_the_id_of_a_repository_is_a_number_or_none(number: bytes, expected: int | None) -> None:
    repository = b'{"id":%b,"name":"widget","full_name":"octo/widget","owner":{"login":"octo"}}' % number
    for name, body in (
        ("push", b'{"ref":"refs/heads/main","repository":%b}' % repository),
        ("issues", b'{"action":"opened","issue":{},"repository":%b}' % repository),
    ):
        event = decode(name, body, id="", delivery="d", hook="7", received_at=1.0)
        assert event is not None
        assert (str(event.repo), event.repo_id) == ("octo/widget", expected)
