"""What describes an admin route to its clients: query parameters, times, and the shape of errors."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Timestamp = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
"""A time in an answer, as ``rfc3339`` formats it."""


class ErrorAnswer(msgspec.Struct, frozen=True):
    """An error: one line that names the cause and the way out."""

    error: str


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter of a route: its name, what it does (one line), and the type of what its text says.

    ``type`` is any type that msgspec knows, such as ``Literal["done", "dead"]``. It describes the parameter: the
    handler gets the text, and checks it. A request without a ``required`` one is refused by the handler, too.
    """

    name: str
    summary: str = ""
    type: Any = str
    required: bool = False
