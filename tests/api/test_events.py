"""The values that travel: names that are checked, and payloads that nobody shares."""

from __future__ import annotations

import msgspec
import pytest
from plugin_maker import event, push

from stackit import Repo


@pytest.mark.parametrize(
    "name",
    [
        "octo/widget",
        "a/b",
        "Octo-Org/x.y_z-1",
        "octo_corp/.github",
        "0/-",
        "o/" + "n" * 100,
        "-octo/widget",
        "octo-/widget",
        "o--o/--upload-pack",
        "--/---",
        "octo/...",
        "octo/x.git",
        "o" * 100 + "/widget",
    ],
)
def test_a_name_that_the_forge_allows_comes_back_as_it_was(name: str) -> None:
    assert str(Repo.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "octo",
        "octo/",
        "/widget",
        "a/b/c",
        "../x",
        "octo/..",
        "octo/.",
        "-o=X/widget",
        "dependabot[bot]/widget",
        ".octo/widget",
        "octo/wid get",
        "octo/wid\x00get",
        "octo/widget\n",
        "octo\n/widget",
        "octo/wídget",
        "octo/\udcff",
        "octo/٣",
        "octo/" + "n" * 101,
        "o" * 101 + "/widget",
        "x" * 10_000,
    ],
)
def test_a_name_that_could_do_harm_is_refused_in_one_short_line(name: str) -> None:
    with pytest.raises(ValueError, match="not a repository name") as refused:
        Repo.parse(name)
    text = str(refused.value)
    assert text.isprintable()
    assert len(text) < 500


def test_one_repository_in_two_spellings_has_one_key() -> None:
    assert Repo.parse("Octo/Widget").key == Repo.parse("octo/WIDGET").key == "octo/widget"
    assert str(Repo.parse("Octo/Widget")) == "Octo/Widget"


def test_the_payload_is_decoded_once_and_a_copy_of_the_event_decodes_its_own() -> None:
    first = event(body=b'{"labels": ["one"], "big": 1}')
    other = msgspec.structs.replace(first)
    assert first.payload is first.payload
    first.payload["labels"].append("two")
    assert other.payload["labels"] == ["one"]


def test_a_copy_made_after_the_payload_was_changed_does_not_have_the_change() -> None:
    first = event()
    first.payload["labels"].append("two")
    assert msgspec.structs.replace(first).payload == {"labels": ["one"]}


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        event().name = "other"  # type: ignore[misc]  # wrong on purpose


def test_an_event_reads_as_its_name_and_action() -> None:
    assert (str(event("issues", "opened")), str(push())) == ("issues.opened", "push")


def test_two_pushes_alike_are_two_events() -> None:
    assert push() != push()
