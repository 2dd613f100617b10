"""TOML tables as typed structs, with errors that name the file and the key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from stackit.api.errors import ConfigError
from stackit.config import checks
from stackit.config.mistakes import AT_ONCE, AlreadyNoted, Mistakes
from stackit.config.setting import fields, is_table
from stackit.config.values import told
from stackit.secrets import watched_file
from stackit.text.escape import escape
from stackit.text.units import decode_unit

Table = TypeVar("Table", bound=msgspec.Struct)

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# msgspec's names of types, in words that a writer of TOML knows.
_WORDS = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of the file. Raises ConfigError, with the line of a mistake in the syntax."""
    text = ""
    try:
        content = watched_file.read(file, checks.LARGEST_CONFIGURATION)
    except (OSError, ValueError) as problem:
        raise ConfigError(escape(f"{file}: cannot be read: {watched_file.reason(problem)}")) from None
    try:
        text = content.decode("utf-8-sig")
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(escape(f"{file}: not UTF-8 text")) from None
    except RecursionError:
        raise ConfigError(escape(f"{file}: nested too deeply")) from None
    except ValueError as problem:  # tomllib raises more than its own TOMLDecodeError, for instance on long numbers
        last = f"at line {len(text.splitlines())}, the end"
        said = str(problem).replace("at end of document", last)
        raise ConfigError(escape(f"{file}: not TOML: {said}")) from None


def decode_table(
    table: Mapping[str, Any],
    wanted: type[Table],
    file: Path,
    base: Path,
    prefix: str = "",
    mistakes: Mistakes = AT_ONCE,
) -> Table:
    """Return ``table`` as the struct ``wanted``; relative paths start at ``base``.

    Mistakes are a key that the struct lacks, one that is missing, and a value of the wrong type or form. Where they are
    collected, the default stands for a wrong value, and None for a table of a list that lacks what it needs. Raises
    ConfigError.
    """
    known = fields(wanted)
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{file}: {prefix}{shown_key(key)}"
        with mistakes.noted():
            if key not in known:
                raise ConfigError(escape(f"{where}: unknown key; {_suggestion(key, list(known))}"))
            kind = known[key].kind
            if is_table(kind):
                values[key] = decode_table(_table(value, where, key), kind, file, base, f"{prefix}{key}.", mistakes)
            elif row := _row(kind):
                values[key] = _decode_rows(_list(value, where, key), row, file, base, (prefix, key), mistakes)
            else:
                values[key] = decode_value(value, wanted, key, where, base)
    for key, field in known.items():
        if field.required and key not in values:
            missing = ConfigError(escape(f"{file}: {prefix}{key}: missing"))
            raise AlreadyNoted if key in table else missing
    return wanted(**values)


def _decode_rows(
    tables: list[Any], row: type[msgspec.Struct], file: Path, base: Path, place: tuple[str, str], mistakes: Mistakes
) -> tuple[msgspec.Struct | None, ...]:
    prefix, key = place
    rows: list[msgspec.Struct | None] = []
    for number, each in enumerate(tables, 1):
        rows.append(None)  # each keeps its number
        with mistakes.noted():
            name = f"{prefix}{key}[{number}]"
            rows[-1] = decode_table(_table(each, f"{file}: {name}", key), row, file, base, f"{name}.", mistakes)
    return tuple(rows)


def decode_value(value: Any, wanted: type[msgspec.Struct], key: str, where: str, base: Path) -> Any:
    """Return ``value`` as the field ``key`` of ``wanted``. Raises ConfigError that begins with ``where``."""
    kind = fields(wanted)[key].kind

    def decode(wanted: type, value: Any) -> Any:
        if wanted is Path:
            return checks.path(value, base)
        return decode_unit(wanted, value)

    try:
        return msgspec.convert(value, kind, dec_hook=decode)
    except msgspec.ValidationError as problem:
        said = in_words(str(problem), kind)
        raise ConfigError(escape(f"{where}: {said}{told(key, value, said)}")) from None


def shown_key(key: str) -> str:
    """Return a key as it may appear in a message."""
    return key if _PLAIN_KEY.fullmatch(key) else repr(key[:64])


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(known))}"


def _row(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct of a field that holds a list of tables; None for any other field."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and is_table(arguments[0]):
        row: type[msgspec.Struct] = arguments[0]
        return row
    return None


def _table(value: Any, where: str, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(escape(f"{where}: expected a table{told(key, value)}"))
    return value


def _list(value: Any, where: str, key: str) -> list[Any]:
    if not isinstance(value, list):
        heading = f"[[{where.rpartition(' ')[2]}]]"
        raise ConfigError(escape(f"{where}: expected a list of tables, each under {heading}{told(key, value)}"))
    return value


def in_words(problem: str, kind: Any = None) -> str:
    """Return an error of msgspec in the words of TOML. ``kind`` is the type that the value should have."""
    if kind is not None and problem.startswith("Invalid enum value"):
        choices = get_args(get_args(kind)[0] if get_origin(kind) is tuple else kind)
        return f"expected one of {', '.join(map(repr, choices))}"
    text, _, position = problem.partition(" - at `$")
    words = re.sub(r"`(\w+)(?: \| null)?`", lambda match: _WORDS.get(match[1], match[1]), text)
    item = re.match(r"\[(\d+)\]", position)
    suffix = f" (item {int(item[1]) + 1})" if item else ""
    return words[:1].lower() + words[1:] + suffix
