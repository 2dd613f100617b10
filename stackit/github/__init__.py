"""GitHub: its signatures, its events and its payloads."""

from stackit.github.forge import GitHub

__all__ = ["GitHub"]
