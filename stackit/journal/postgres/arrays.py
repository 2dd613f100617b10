"""Arrays as arguments of a statement: each is one value of one type, whatever it holds.

psycopg looks at the elements of a list to find its type, which takes longer than the statement, and a list of other
numbers would be another prepared statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, ClassVar

from psycopg.abc import Buffer
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_HEAD = Struct("!iiIii")  # dimensions, has NULLs, type of the elements, length, lower bound
_LENGTH = Struct("!i")
_NULL = _LENGTH.pack(-1)


class Array:
    """An array of one type, as the server takes it in binary form."""

    __slots__ = ("encoded",)

    oid: ClassVar[int]
    element: ClassVar[int]

    def __init__(self, elements: Iterable[bytes | None], length: int) -> None:
        parts = [_HEAD.pack(1, 1, self.element, length, 1)]
        for each in elements:
            parts += (_NULL,) if each is None else (_LENGTH.pack(len(each)), each)
        self.encoded = b"".join(parts)


class Texts(Array):
    """``text[]``."""

    __slots__ = ()
    oid, element = 1009, 25

    def __init__(self, texts: Sequence[str | None]) -> None:
        super().__init__([None if each is None else each.encode() for each in texts], len(texts))


class Chars(Array):
    """``"char"[]``."""

    __slots__ = ()
    oid, element = 1002, 18

    def __init__(self, letters: Sequence[str]) -> None:
        super().__init__([each.encode() for each in letters], len(letters))


class Bytes(Array):
    """``bytea[]``."""

    __slots__ = ()
    oid, element = 1001, 17

    def __init__(self, values: Sequence[bytes | None]) -> None:
        super().__init__(values, len(values))


class Bools(Array):
    """``bool[]``."""

    __slots__ = ()
    oid, element = 1000, 16

    def __init__(self, values: Sequence[bool]) -> None:
        super().__init__([b"\1" if each else b"\0" for each in values], len(values))


class _Numbers(Array):
    __slots__ = ()
    packed: ClassVar[Struct]

    def __init__(self, numbers: Sequence[Any]) -> None:
        pack = self.packed.pack
        super().__init__([None if each is None else pack(each) for each in numbers], len(numbers))


class Int2s(_Numbers):
    """``int2[]``."""

    __slots__ = ()
    oid, element, packed = 1005, 21, Struct("!h")


class Int4s(_Numbers):
    """``int4[]``."""

    __slots__ = ()
    oid, element, packed = 1007, 23, Struct("!i")


class Int8s(_Numbers):
    """``int8[]``."""

    __slots__ = ()
    oid, element, packed = 1016, 20, Struct("!q")


class Floats(_Numbers):
    """``float8[]``."""

    __slots__ = ()
    oid, element, packed = 1022, 701, Struct("!d")


def register(adapters: Any) -> None:
    """Let the statements of a connection take arrays: ``adapters`` are that connection's."""
    for kind in (Texts, Chars, Bytes, Bools, Int2s, Int4s, Int8s, Floats):
        adapters.register_dumper(kind, _dumper(kind.oid))


def _dumper(array: int) -> type[Dumper]:
    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = array

        def dump(self, obj: Array) -> Buffer:
            return obj.encoded

        def get_key(self, obj: Array, format: PyFormat) -> type[Array]:  # noqa: A002, ARG002 - psycopg's name
            return type(obj)

    return ArrayDumper
