"""The place and the traceback of an exception of foreign code, bounded, without credentials, without stackit's frames.

Nothing here raises, whatever the class of the exception does.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from traceback import format_exception_only
from types import CodeType
from typing import Any

import msgspec

import twisted
from stackit.api.errors import class_name, describe, wrapped
from stackit.text.redaction import redacted

LONGEST = 8_000
"""Characters of a traceback."""

_FRAMES_ABOVE = 10
_FRAMES_BELOW = 30
"""Frames of one exception that are shown: the outermost, and the innermost."""
_MOST_LINKED = 6
"""Exceptions of one chain that are shown."""
_LONGEST_MESSAGE = 2_000
_LONGEST_SOURCE = 300
_LONGEST_ERROR = 500
_LIBRARIES = ("site-packages", "dist-packages")

_STACKIT = Path(__file__).parent.parent
_TWISTED = Path(twisted.__file__).parent
# Frames by which Twisted and Python pass an exception on: of no use to anybody.
_MACHINERY = (
    *(f"{_TWISTED}/{name}" for name in ("internet/defer.py", "python/failure.py")),
    f"{Path(inspect.__file__).parent}/importlib/",
    "<frozen ",
)
# Frames between the reactor and foreign code: of no use to the author of a plugin.
_PLUMBING = tuple(
    f"{_STACKIT}/{name}" for name in ("api/", "bus/", "dispatch/", "web/", "cli/", "runtime/", "service/", "tap.py")
)


class Place(msgspec.Struct, frozen=True):
    """A line of a function; ``file`` is its path."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"in {self.function}, {self.file.rpartition('/')[2]}:{self.line}"


class Source(msgspec.Struct, frozen=True):
    """The source of a plugin's function: its own place, and the directory or the file that its plugin is in."""

    place: Place
    root: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Source | None:
        """Return the source of a function; None for a callable that is none."""
        try:
            code: CodeType = inspect.unwrap(function).__code__
        except BaseException:  # noqa: BLE001 - foreign code: a callable of any kind
            return None
        directory = code.co_filename.rpartition("/")[0]
        root = code.co_filename if directory.endswith(_LIBRARIES) else f"{directory}/"
        return cls(Place(code.co_name, code.co_filename, code.co_firstlineno), root)

    def has(self, file: str) -> bool:
        """Return True for a file of the plugin itself, and not of a library that is installed below it."""
        return file.startswith(self.root) and not any(name in file[len(self.root) :] for name in _LIBRARIES)


def place_of(fault: BaseException) -> Place | None:
    """Return the innermost place of an exception in foreign code, or else of its causes; None where there is none."""
    if isinstance(fault, SyntaxError):
        return None  # its text has the place
    return next((frames[-1] for _, frames in _traced(fault) if frames), None)


def own_place_of(fault: BaseException, source: Source) -> Place:
    """Return the innermost place of an exception in the plugin's own files, or else that of the function itself.

    Where the exception has been nowhere in the plugin, its causes are looked at.
    """
    own = (place for _, frames in _traced(fault) for place in reversed(frames) if source.has(place.file))
    return next(own, source.place)


def describe_with_place(fault: BaseException | None, redact: Callable[[str], str] = redacted) -> str:
    """Return ``describe(fault)`` with the place where it was raised, if that is known, as one bounded line.

    Where foreign code had no part in it, that is a place in stackit.
    """
    if fault is None:
        return describe(fault, redact)
    frames = [] if isinstance(fault, SyntaxError) else [each for each in _frames(fault) if _says_something(each)]
    return describe_at(fault, place_of(fault) or (frames[-1] if frames else None), redact)


def describe_at(fault: BaseException | None, place: Place | None, redact: Callable[[str], str] = redacted) -> str:
    """Return ``describe(fault)`` with a place, as one line of at most 500 characters."""
    suffix = "" if place is None else f" ({place})"[:200].encode("utf-8", "backslashreplace").decode()
    return f"{describe(fault, redact)[: _LONGEST_ERROR - len(suffix)]}{suffix}"


def traceback_of(fault: BaseException, redact: Callable[[str], str] = redacted) -> str:
    """Return the traceback of an exception and its causes, those first, as at most 8,000 characters of whole lines.

    Lines end by a newline, and may hold any other character that a message has.
    """
    try:
        lines = [line for each, places in reversed(_traced(fault)) for line in _lines(each, places, redact)]
        # Whole lines go, so that no half of a credential is left; then what is left is bounded enough to be redacted.
        text = redact("\n".join(_without_middle(lines)))
    except BaseException as second:  # noqa: BLE001 - foreign code: a class may raise whatever is asked of it
        text = f"{describe(fault, redact)}\n(no traceback can be had: {describe(second)})"
    return text.encode("utf-8", "backslashreplace").decode()[:LONGEST]


def release_frames(fault: BaseException) -> None:
    """Drop the frames that an exception and its causes hold, with every event in them.

    Python adds to the frames of an exception object that is raised a second time; a plugin may raise one for ever.
    """
    for each in _linked(fault):
        with suppress(BaseException):  # foreign code: its class may hide the traceback behind a property
            each.__traceback__ = None


def _linked(fault: BaseException) -> list[BaseException]:
    """Return an exception, what it wraps or was raised because of, and so on."""
    found: list[BaseException] = []
    ahead = [fault]
    while ahead and len(found) < _MOST_LINKED:
        each = ahead.pop(0)
        if not any(each is other for other in found):
            found.append(each)
            ahead += wrapped(each) or _causes(each)
    return found


def _causes(fault: BaseException) -> list[BaseException]:
    try:
        if isinstance(fault, BaseExceptionGroup):
            return list(fault.exceptions[:_MOST_LINKED])
        cause = fault.__cause__
        if cause is None and not fault.__suppress_context__:
            cause = fault.__context__
        return [] if cause is None else [cause]
    except BaseException:  # noqa: BLE001 - foreign code: its class may hide its causes behind properties
        return []


def _traced(fault: BaseException) -> list[tuple[BaseException, list[Place]]]:
    """Return each linked exception with its frames, without those of the way to foreign code."""
    return [(each, [place for place in _frames(each) if _is_foreign(place)]) for each in _linked(fault)]


def _is_foreign(place: Place) -> bool:
    return _says_something(place) and not place.file.startswith(_PLUMBING)


def _says_something(place: Place) -> bool:
    return not place.file.startswith(_MACHINERY)


def _frames(fault: BaseException) -> list[Place]:
    """Return the frames of an exception, the outermost first."""
    found: list[Place] = []
    try:
        trace = fault.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            found.append(Place(code.co_name, code.co_filename, trace.tb_lineno))
            trace = trace.tb_next
    except BaseException:  # noqa: BLE001 - foreign code: its class may hide the traceback behind a property
        return []
    return found


def _lines(fault: BaseException, places: Sequence[Place], redact: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of one exception: its frames, and what it says."""
    if places:
        yield "Traceback (most recent call last):"
    left_out = len(places) - _FRAMES_ABOVE - _FRAMES_BELOW
    for number, each in enumerate(places):
        if number < _FRAMES_ABOVE or number >= _FRAMES_ABOVE + left_out:
            yield from _frame(each)
        elif number == _FRAMES_ABOVE:
            yield f"  ({left_out} frames are left out)"
    if wrapped(fault):
        yield describe(fault, redact)
        return
    said = "".join(format_exception_only(fault)) if isinstance(fault, SyntaxError) else _said(fault)
    # Before the cut, which could leave half a credential.
    yield from redact(said)[:_LONGEST_MESSAGE].rstrip("\n").split("\n")


def _said(fault: BaseException) -> str:
    """Return the class of an exception, its message, and its notes."""
    message = str(fault)
    notes = getattr(fault, "__notes__", None)
    said = [f"{class_name(fault)}: {message}" if message else class_name(fault)]
    return "\n".join([*said, *(each for each in (notes or ()) if isinstance(each, str))])


def _frame(place: Place) -> Iterator[str]:
    yield f'  File "{place.file}", line {place.line}, in {place.function}'
    line = linecache.getline(place.file, place.line).strip()
    if 0 < len(line) <= _LONGEST_SOURCE:  # a part of a line could be half of a credential
        yield f"    {line}"


def _without_middle(lines: list[str]) -> list[str]:
    """Return lines of at most ``LONGEST`` characters together, for which lines in the middle go."""
    if sum(map(len, lines)) + len(lines) <= LONGEST:
        return lines
    above = _fitting(lines, LONGEST // 3)
    below = _fitting(lines[len(above) :][::-1], LONGEST * 2 // 3 - 100)[::-1]
    return [*above, f"({len(lines) - len(above) - len(below)} lines are left out)", *below]


def _fitting(lines: list[str], room: int) -> list[str]:
    """Return the first lines that have room."""
    sizes = accumulate(len(line) + 1 for line in lines)
    return [line for line, size in zip(lines, sizes, strict=True) if size <= room]
