"""A setting is one annotated field: its check, option, variable and summary are in the annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from stackit.api.errors import ConfigError
from stackit.config import checks
from stackit.config.model import Config, FileTable
from stackit.config.setting import Setting, check_settings, fields, settings
from stackit.config.toml import decode_table
from stackit.tap import Options
from stackit.text.units import Duration


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    pause: Annotated[Duration, Setting("how long to wait", checks.positive, "pause", "STACKIT_PAUSE")] = Duration(1)


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    inner: Inner = Inner()
    limit: Annotated[int | None, Setting("how many at most", checks.at_least_one)] = None
    made: int = 0


def where(name: str) -> str:
    return f"the file: {name}"


def decoded(table: dict[str, object]) -> Outer:
    return decode_table(table, Outer, Path("/etc/x.conf"), Path("/etc"))


def test_the_settings_of_a_struct_are_its_annotated_fields_and_those_of_its_tables() -> None:
    found = dict(settings(Outer))
    assert {name: each.summary for name, each in found.items()} == {
        "inner.pause": "how long to wait",
        "limit": "how many at most",
    }
    assert (found["inner.pause"].option, found["inner.pause"].variable) == ("pause", "STACKIT_PAUSE")


def test_a_field_has_its_type_without_the_annotation_and_its_default() -> None:
    assert fields(Outer)["limit"].kind == int | None
    assert fields(Inner)["pause"].kind is Duration
    assert fields(Inner)["pause"].default == 1
    assert fields(Outer)["made"].setting is None


def test_an_annotated_field_is_decoded_by_its_type() -> None:
    assert decoded({"limit": 3, "inner": {"pause": "2m"}}) == Outer(limit=3, inner=Inner(pause=Duration(120)))
    with pytest.raises(ConfigError, match=r"inner\.pause: expected a duration"):
        decoded({"inner": {"pause": "soon"}})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"inner": {"pause": 0}}, "the file: inner.pause: must be more than 0 (it is 0s)"),
        ({"limit": 0}, "the file: limit: must be at least 1 (it is 0)"),
    ],
)
def test_the_check_of_a_field_is_called_with_its_value(table: Any, said: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        check_settings(decoded(table), where)
    assert str(raised.value) == said


def test_a_value_that_is_not_given_is_not_checked() -> None:
    check_settings(Outer(), where)


def test_every_setting_has_a_summary() -> None:
    for struct in (FileTable, Config):
        for name, each in settings(struct):
            assert each.summary, name
            assert not each.summary.endswith("."), name


def test_the_options_of_the_command_line_are_those_of_the_settings() -> None:
    options = {each.option for _, each in settings(FileTable) if each.option}
    assert {name for name, *_ in Options.optParameters} == {*options, "config"}
