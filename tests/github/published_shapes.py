"""What GitHub publishes of its webhooks, held against what stackit takes for an event.

``make test-shapes`` has npm fetch the packages that ``published_shapes.txt`` pins, with their hashes; they are large,
and not ours to keep. Of each schema the smallest body, the fullest, and both with null wherever it may be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stackit.github.actions import doubt
from stackit.github.event_types import REQUIRED
from stackit.github.payloads import decode

PINNED = [line.split() for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines()]
FETCHED = Path(sys.prefix) / "shapes"
EXAMPLES, SCHEMAS = (
    FETCHED / f"{package.removeprefix('@').replace('/', '-').replace('@', '-')}.tgz" for package, _ in PINNED
)
DEEPEST = 5
"""Levels of objects in which optional keys are filled in."""
TEXTS = {"full_name": "octo/widget", "name": "widget", "login": "octo", "ref": "refs/heads/main"}

# Their payloads do not differ at the top: what a handler gets of one may be the other.
ALIKE = [
    {"dependabot_alert", "repository_vulnerability_alert", "secret_scanning_alert"},
    {"public", "push"},
    *(
        {"repository", other}
        for other in ("branch_protection_configuration", "deployment_protection_rule", "enterprise", "watch")
    ),
    {"custom_property", "organization_custom_property"},
]


# What these are about cannot be told from their bodies: they may as well be of the event behind.
AMBIGUOUS = {
    ("organization", "deleted"): "repository",
    ("organization", "renamed"): "repository",
    ("ping", None): "public",
}


class Published(NamedTuple):
    """A body of an event, and where it is from."""

    origin: str
    event: str
    body: dict[str, Any]


def documents(package: Path) -> dict[str, Any]:
    """The JSON files of a package, by path."""
    with tarfile.open(package) as archive:
        found = ((each.name, archive.extractfile(each)) for each in archive if each.name.endswith(".json"))
        return {name: json.load(file) for name, file in found if file and not name.endswith("package.json")}


def examples(path: str, document: list[Any]) -> Iterator[Published]:
    """The bodies of a file of examples."""
    for each in document:
        yield from (Published(path, each["name"], body) for body in each["examples"])


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The name, the event and the schema of each operation of a description."""
    for operation, described in document["webhooks"].items():
        post = described["post"]
        event = post["operationId"].partition("/")[0].replace("-", "_")
        yield operation, event, post["requestBody"]["content"]["application/json"]["schema"]


def generated(path: str, document: dict[str, Any]) -> Iterator[Published]:
    """Bodies made from each operation of a description."""
    for operation, event, schema in operations(document):
        for filled in (False, True):
            for null in (False, True):
                for body in Maker(document, filled=filled, null=null).alternatives(schema):
                    yield Published(f"{path} {operation} {filled=} {null=}", event, body)


def between(path: str, document: dict[str, Any]) -> Iterator[Published]:
    """Bodies between the smallest and the fullest: with each optional key at the top alone, and with all others."""
    for operation, event, schema in operations(document):
        smallest, fullest = (
            Maker(document, filled=filled, null=False).alternatives(schema) for filled in (False, True)
        )
        for small, full in zip(smallest, fullest, strict=True):
            for key in full.keys() - small.keys():
                yield Published(f"{path} {operation} with {key}", event, {**small, key: full[key]})
                others = {name: value for name, value in full.items() if name != key}
                yield Published(f"{path} {operation} without {key}", event, others)


class Maker:
    """Values that a schema of ``document`` allows: ``filled`` with all optional keys, ``null`` wherever it may be."""

    def __init__(self, document: dict[str, Any], *, filled: bool, null: bool) -> None:
        self._document = document
        self._filled = filled
        self._null = null

    def alternatives(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """A value of each alternative at the top."""
        schema = self._whole(schema)
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                for each in schema[choice]:
                    yield from self.alternatives(self._merged(_without(schema, choice), each))
                return
        yield self._value("", schema, 0)

    def _value(self, key: str, schema: Mapping[str, Any], depth: int) -> Any:
        schema = self._whole(schema)
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                if self._null and any(map(_is_nullable, map(self._whole, schema[choice]))):
                    return None
                return self._value(key, self._merged(_without(schema, choice), schema[choice][0]), depth)
        if self._null and _is_nullable(schema):
            return None
        if "enum" in schema:
            return next((each for each in schema["enum"] if each is not None), None)
        kinds = schema.get("type", "object" if "properties" in schema else None)
        kind = next((each for each in kinds if each != "null"), None) if isinstance(kinds, list) else kinds
        optional = self._filled and depth < DEEPEST
        if kind == "object":
            properties, needed = schema.get("properties", {}), set(schema.get("required", ()))
            chosen = {name: each for name, each in properties.items() if optional or name in needed}
            return {name: self._value(name, each, depth + 1) for name, each in chosen.items()}
        if kind == "array":
            return [self._value(key, schema["items"], depth + 1)] if optional and "items" in schema else []
        return {"string": TEXTS.get(key, "x"), "integer": 1, "number": 1.5, "boolean": False}.get(str(kind))

    def _whole(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """``schema`` without a reference or ``allOf`` at its top."""
        while "$ref" in schema:
            found: Any = self._document
            for name in schema["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            schema = found
        return self._merged(_without(schema, "allOf"), *schema["allOf"]) if "allOf" in schema else schema

    def _merged(self, *schemas: Mapping[str, Any]) -> Mapping[str, Any]:
        merged: dict[str, Any] = {}
        for each in map(self._whole, schemas):
            properties = {**merged.get("properties", {}), **each.get("properties", {})}
            merged = {
                **merged,
                **each,
                **({"properties": properties} if properties else {}),
                "required": [*merged.get("required", ()), *each.get("required", ())],
            }
        return merged


def _without(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _is_nullable(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("nullable")) or "null" in schema.get("type", ()) or None in schema.get("enum", ())


@pytest.fixture(scope="module", params=(EXAMPLES, SCHEMAS), ids=lambda package: package.stem)
def published(request: pytest.FixtureRequest) -> list[Published]:
    readers: dict[Path, Callable[[str, Any], Iterable[Published]]] = {EXAMPLES: examples, SCHEMAS: generated}
    read = readers[request.param]
    return [each for path, document in documents(request.param).items() for each in read(path, document)]


def taken(event: str, body: bytes) -> Any:
    return decode(event, body, id="", delivery="d", hook="1", received_at=0.0)


@pytest.mark.parametrize(("path", "integrity"), [(EXAMPLES, PINNED[0][1]), (SCHEMAS, PINNED[1][1])])
def test_what_was_fetched_is_what_is_pinned(path: Path, integrity: str) -> None:
    assert base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode() == integrity.removeprefix("sha512-")


def test_there_is_much_to_read(published: list[Published]) -> None:
    assert len(published) > 700
    assert len({each.event for each in published}) > 60


def test_no_published_shape_is_dropped(published: list[Published]) -> None:
    dropped = []
    for each in published:
        event = taken(each.event, json.dumps(each.body).encode())
        if event is None or event.action != each.body.get("action"):
            dropped.append((each.origin, each.event, sorted(each.body)))
    assert dropped == []


def test_nothing_between_the_smallest_and_the_fullest_is_dropped() -> None:
    made = [each for path, document in documents(SCHEMAS).items() for each in between(path, document)]
    assert len(made) > 10_000
    dropped = [each for each in made if taken(each.event, json.dumps(each.body).encode()) is None]
    for each in dropped:
        other = AMBIGUOUS.get((each.event, each.body.get("action")), "")
        assert taken(other, json.dumps(each.body).encode()) is not None, each


def test_no_published_event_is_doubted(published: list[Published]) -> None:
    named = {(each.event, each.body.get("action")) for each in published if each.event != "ping"}
    assert {each: told for each in named if (told := doubt(*each))} == {}


def test_no_published_shape_is_taken_for_another_event(published: list[Published]) -> None:
    mistaken = set()
    for each in published:
        body = json.dumps(each.body).encode()
        alike = {other for group in ALIKE if each.event in group for other in group}
        for other in REQUIRED.keys() - {each.event} - alike:
            if taken(other, body) is not None:
                mistaken.add((each.event, other, each.origin))
    assert sorted(mistaken) == []
