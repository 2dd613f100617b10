"""The fixture of the dispatch tests: a stackit without the web."""

from __future__ import annotations

from dispatch_harness import harness

__all__ = ["harness"]
