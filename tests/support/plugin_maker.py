"""Plugins and events made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from stackit import Event, Push, RefChange, RefsChanged, Repo
from stackit.bus.bus import Bus

WIDGET = Repo("Octo", "Widget")
ZEROS, ONE, TWO = "0" * 40, "1" * 40, "2" * 40


def plugin(*functions: Callable[..., Any]) -> ModuleType:
    """A plugin module that holds these functions."""
    module = ModuleType("made_on_the_spot")
    for function in functions:
        setattr(module, function.__name__, function)
    return module


def bus_with(**plugins: object) -> Bus:
    """A bus with these plugins, by name; a function stands for a plugin of that one function."""
    bus = Bus()
    for name, each in plugins.items():
        bus.register(name, plugin(each) if callable(each) else each)
    return bus


def event(name: str = "issues", action: str | None = None, **fields: Any) -> Event:
    """An event with little in it."""
    values = {"id": "1", "delivery": "d", "received_at": 100.0, "body": b'{"labels":["one"]}', "repo": WIDGET}
    return Event(name=name, action=action, **{**values, **fields})


def push(**fields: Any) -> Push:
    """A push with little in it."""
    values = {"id": "1", "delivery": "d", "received_at": 100.0, "body": b"{}", "repo": WIDGET}
    return Push(name="push", **{**values, **fields})


def refs_changed(**fields: Any) -> RefsChanged:
    """One new branch."""
    changes = (RefChange("refs/heads/main", ZEROS, ONE, "created"),)
    return RefsChanged(**{"repo": WIDGET, "changes": changes, "cause": "push", **fields})
