"""Mistakes in a configuration: the first one stops a start, and a check collects all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stackit.api.errors import ConfigError, StackitError


class AlreadyNoted(ConfigError):
    """A part of the configuration has a mistake that is noted already, so nothing can be made of it."""


class Mistakes:
    """The mistakes of a configuration: raised at once or, with ``collect``, kept in ``found`` while reading goes on."""

    def __init__(self, *, collect: bool = False) -> None:
        self.found: list[StackitError] = []
        self._collect = collect

    def note(self, mistake: StackitError) -> None:
        """Keep a mistake, or raise it."""
        if not self._collect:
            raise mistake
        if not isinstance(mistake, AlreadyNoted):
            self.found.append(mistake)

    def drop(self, kind: type[StackitError]) -> None:
        """Forget the mistakes of a kind: they only follow from another one."""
        self.found = [each for each in self.found if not isinstance(each, kind)]

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the mistake that ends the block, if one does."""
        try:
            yield
        except StackitError as mistake:
            if not self._collect:
                raise
            self.note(mistake)


AT_ONCE = Mistakes()
"""Raises each mistake."""
