"""Tracebacks: bounded, of the plugin's side, without credentials, and never a fault of their own."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from foreign_faults import FAULTS, IDS
from twisted.internet.defer import FirstError, fail
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.client import ResponseNeverReceived as NeverReceived

from stackit.api.errors import PluginError, describe
from stackit.api.faults import FaultDescriber
from stackit.api.tracebacks import LONGEST, Source, describe_with_place, own_place_of, traceback_of
from stackit.bus.bus import Bus
from stackit.bus.loader import load_plugins
from stackit.bus.timeouts import call
from stackit.secrets.redactor import Redactor
from stackit.text.redaction import redacted


def plugin_function(directory: Path, text: str, name: str = "handler.py") -> Callable[[], Any]:
    """The function ``go`` of a file with this text."""
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    linecache.checkcache(str(file))
    names: dict[str, Any] = {"__name__": "handler"}
    exec(compile(text, str(file), "exec"), names)  # noqa: S102 - a plugin of this test
    go: Callable[[], Any] = names["go"]
    return go


def raised(function: Callable[[], Any]) -> BaseException:
    """What a call of a handler comes to, as dispatch sees it."""
    failures: list[Failure] = []
    call(function).addErrback(failures.append)
    value = failures[0].value
    assert value is not None
    return value


def source_of(function: Callable[[], Any]) -> Source:
    source = Source.of(function)
    assert source is not None
    return source


def test_the_frames_are_those_of_the_plugin(tmp_path: Path) -> None:
    go = plugin_function(tmp_path, "def go():\n    step()\n\ndef step():\n    raise ValueError('no')\n")
    assert traceback_of(raised(go)).split("\n") == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/handler.py", line 2, in go',
        "    step()",
        f'  File "{tmp_path}/handler.py", line 5, in step',
        "    raise ValueError('no')",
        "ValueError: no",
    ]
    assert describe_with_place(raised(go)) == "ValueError: no (in step, handler.py:5)"


def test_the_place_is_in_the_plugin_also_where_a_library_raised(tmp_path: Path) -> None:
    go = plugin_function(tmp_path, "import json\n\ndef go():\n    json.loads('{')\n")
    fault = raised(go)
    assert "decoder.py:" in describe_with_place(fault)
    assert str(own_place_of(fault, source_of(go))) == "in go, handler.py:4"
    assert "decoder.py" in traceback_of(fault)
    assert FaultDescriber(redacted, go).describe(fault).error.endswith("(in go, handler.py:4)")


def test_a_library_that_is_installed_below_the_plugin_is_not_the_plugin(tmp_path: Path) -> None:
    library = plugin_function(tmp_path, "def go():\n    raise OSError('x')\n", ".venv/lib/site-packages/lib.py")
    go = plugin_function(tmp_path, "def go():\n    library()\n")
    go.__globals__["library"] = library
    assert str(own_place_of(raised(go), source_of(go))) == "in go, handler.py:2"


def test_causes_come_first(tmp_path: Path) -> None:
    text = "def go():\n    try:\n        {}['x']\n    except KeyError as one:\n        raise OSError('late') from one\n"
    lines = traceback_of(raised(plugin_function(tmp_path, text))).split("\n")
    assert lines.index("KeyError: 'x'") < lines.index("OSError: late")
    assert lines.count("Traceback (most recent call last):") == 2


def test_what_a_coroutine_waits_for_is_in_the_traceback_and_how_twisted_brings_it_is_not(tmp_path: Path) -> None:
    text = "async def go():\n    await waited\n\nwaited = None\n"
    go = plugin_function(tmp_path, text)
    go.__globals__["waited"] = fail(OSError("unreachable"))
    said = traceback_of(raised(go))
    assert said.split("\n")[1:] == [
        f'  File "{tmp_path}/handler.py", line 2, in go',
        "    await waited",
        "OSError: unreachable",
    ]


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError) as problem:
        plugin_function(tmp_path, "def go():\n    return (\n")
    with pytest.raises(PluginError) as named:
        load_plugins(Bus(), {"odd": {"file": "handler.py"}}, directory=tmp_path, installed=[])
    assert named.value.__cause__ is not None
    assert traceback_of(named.value.__cause__).split("\n")[0] == f'  File "{tmp_path}/handler.py", line 2'
    said = traceback_of(problem.value)
    assert f'File "{tmp_path}/handler.py", line 2' in said
    assert said.endswith("SyntaxError: '(' was never closed")
    assert "(handler.py, line 2)" in describe_with_place(problem.value)


def test_an_exception_that_calls_itself_without_end_has_a_bounded_traceback(tmp_path: Path) -> None:
    fault = raised(plugin_function(tmp_path, "def go():\n    on()\n\ndef on():\n    go()\n"))
    said = traceback_of(fault)
    assert len(said) <= LONGEST
    assert "frames are left out" in said
    assert said.endswith("RecursionError: maximum recursion depth exceeded")


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_a_long_message_is_cut_and_the_place_is_not(size: int) -> None:
    with pytest.raises(ValueError, match="x") as problem:
        raise ValueError("x\n" * size)
    assert len(traceback_of(problem.value)) <= LONGEST
    assert describe_with_place(problem.value).endswith(")")
    assert len(describe_with_place(problem.value)) <= 500


def test_no_secret_is_in_a_traceback_wherever_it_was(tmp_path: Path) -> None:
    secret = "correct horse battery"
    text = f"def go():\n    fault = OSError('{secret}')\n    fault.add_note('{secret}')\n    raise fault; '{secret}'\n"
    said = traceback_of(raised(plugin_function(tmp_path, text)), Redactor([secret]))
    assert "***" in said
    assert "horse" not in said


def test_no_half_of_a_secret_is_left_where_a_message_is_cut() -> None:
    secret = "s3cret" * 20
    for before in range(1_880, 2_010, 7):
        said = traceback_of(ValueError("x" * before + secret), Redactor([secret]))
        assert "s3cret" not in said


def test_a_failed_request_of_treq_says_what_happened() -> None:
    with pytest.raises(ConnectionLost) as lost:
        raise ConnectionLost("bye")
    never = NeverReceived([Failure(lost.value)])
    assert describe(never) == f"ResponseNeverReceived: {describe(lost.value)}"
    said = traceback_of(never)
    assert "in test_a_failed_request_of_treq_says_what_happened" in said
    assert said.split("\n")[-2:] == [describe(lost.value), describe(never)]
    assert "Failure" not in describe(ResponseFailed([Failure(never), Failure(lost.value)]))


def test_the_first_error_of_several_deferreds_says_which_it_is() -> None:
    fault = FirstError(Failure(OSError("no route")), 3)
    assert describe(fault) == "FirstError: OSError: no route"


def test_exceptions_that_wrap_each_other_in_a_circle_are_described() -> None:
    never = NeverReceived([])
    never.reasons.append(Failure(never))
    assert describe(never).startswith("ResponseNeverReceived")
    assert traceback_of(never)


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_whatever_was_raised_has_a_traceback(make: Callable[[], BaseException], text: str) -> None:
    def go() -> None:
        raise make()

    fault = raised(go)
    said = traceback_of(fault)
    assert text.partition(":")[0] in said
    assert said.encode()
    assert text.partition(":")[0] in FaultDescriber(redacted, go).describe(fault).error


def test_only_the_first_of_a_kind_is_new_and_few_kinds_are_remembered(tmp_path: Path) -> None:
    text = "def go(line=0):\n" + "\n".join(f"    if line == {n}: raise OSError({n})" for n in range(400))
    go = plugin_function(tmp_path, text)
    faults = FaultDescriber(redacted, go)
    any_line: Any = go

    def is_new(line: int) -> bool:
        return faults.describe(raised(partial(any_line, line))).is_new

    assert [is_new(0), is_new(0), is_new(1), is_new(0)] == [True, False, True, False]
    assert all(is_new(line) for line in range(2, 400))
    assert is_new(0)
    assert len(faults._kinds) <= 256


def test_a_fault_that_was_never_raised_is_at_the_handler(tmp_path: Path) -> None:
    go = plugin_function(tmp_path, "\n\ndef go():\n    return waited\n")
    go.__globals__["waited"] = fail(OSError("no"))
    assert FaultDescriber(redacted, go).describe(raised(go)).error == "OSError: no (in go, handler.py:3)"
