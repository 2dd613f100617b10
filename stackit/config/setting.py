"""A setting: one annotated field of a struct.

::

    deadline: Annotated[Duration, Setting("the time for a whole request", checks.positive)] = Duration(30)

The field gives the name, the type and the default. The annotation gives the rest: the line in the documentation and in
``--help``, the check, the option of the command line and the environment variable. twistd.conf and
docs/configuration.md are tested against the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

import msgspec

from stackit.api.errors import ConfigError, StackitError
from stackit.config.mistakes import AT_ONCE, Mistakes
from stackit.config.values import told
from stackit.text.escape import escape
from stackit.text.redaction import redacted

Where = Callable[[str], str]
"""From the name of a setting to the place that its value came from, for a message."""


class Setting(msgspec.Struct, frozen=True):
    """The annotation of a field.

    ``summary`` is a clause in small letters. ``check`` is called with a value of the field's type that is not None,
    and raises ValueError that says what is expected. ``option`` is written without its dashes. With ``restart`` a
    reload leaves it as it is; any other setting has a part in ``stackit.reload`` that takes a change of it.
    """

    summary: str
    check: Callable[[Any], object] | None = None
    option: str | None = None
    variable: str | None = None
    restart: bool = False

    def help(self) -> str:
        """Return the summary as a sentence for a terminal."""
        return f"{self.summary[0].upper()}{self.summary[1:]}.".replace("`", "")


class Field(msgspec.Struct, frozen=True):
    """A field: its type without the annotation, the annotation (None for one of no use to people), and its default."""

    kind: Any
    setting: Setting | None
    required: bool
    default: Any


@cache  # msgspec evaluates every annotation anew, and a file may have ten thousand tables of one kind
def fields(struct: type[msgspec.Struct]) -> Mapping[str, Field]:
    """Return the fields of a struct by name."""
    return {each.encode_name: _field(each) for each in msgspec.structs.fields(struct)}


def settings(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Yield the settings of a struct and of the tables in it, by dotted name: ``admin.listen``."""
    for name, field in fields(struct).items():
        if is_table(field.kind):
            yield from settings(field.kind, f"{prefix}{name}.")
        elif field.setting is not None:
            yield f"{prefix}{name}", field.setting


def is_table(kind: Any) -> bool:
    """Return True for a struct."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def check_settings(table: msgspec.Struct, where: Where, prefix: str = "", mistakes: Mistakes = AT_ONCE) -> None:
    """Check every setting of a table and of the tables in it, by its annotation. Raises ConfigError."""
    for name, field in fields(type(table)).items():
        value = getattr(table, name)
        if is_table(field.kind):
            check_settings(value, where, f"{prefix}{name}.", mistakes)
        elif field.setting is not None and field.setting.check is not None and value is not None:
            with mistakes.noted():
                checked(where(f"{prefix}{name}"), field.setting.check, value, key=name)


def checked(where: str, check: Callable[..., Any], *values: Any, key: str | None = None) -> Any:
    """Return what the check returns. Raises ConfigError that begins with ``where``, if the check refuses the values.

    With ``key``, the name of the setting, its end shows the first value, unless that may be a secret.
    """
    try:
        return check(*values)
    except (ValueError, StackitError) as problem:
        text = str(problem)
        shown = told(key, values[0], text) if key is not None else ""
        if shown:
            text = redacted(text) + shown  # the text may have the value, too
        raise ConfigError(escape(f"{where}: {text}")) from None


def _field(info: msgspec.structs.FieldInfo) -> Field:
    kind, setting = info.type, None
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        setting = next((each for each in notes if isinstance(each, Setting)), None)
    default = info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()
    return Field(kind, setting, info.required, default)
