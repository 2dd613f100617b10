"""Whether GitHub takes the key of an App: told once, and tried less and less often while it does not."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.errors import StackitError
from stackit.api.reactor import Timers
from stackit.github.api import ApiError, AppKey
from stackit.github.apps.errors import AccessError

_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 600.0


class KeyStanding:
    """The standing of the key of an App with GitHub. ``problem`` says why it is refused, None while it is not."""

    def __init__(self, name: str, key: AppKey, reactor: Timers, notice: Callable[[str], None]) -> None:
        """``name`` is that of the App."""
        self.problem: str | None = None
        self._name = name
        self._key = key
        self._reactor = reactor
        self._notice = notice
        self._retry_at = 0.0
        self._refusals = 0
        self._version = key.version

    @property
    def is_due(self) -> bool:
        """Return True if a refused key is to be tried: there is another one, or it is time."""
        return self._key.version != self._version or self._reactor.seconds() >= self._retry_at

    def check(self) -> None:
        """Raise AccessError while the key is refused, and it is too early to try it again."""
        if self.problem is not None and not self.is_due:
            raise AccessError(self.problem, "unauthorized")

    def refused(self, problem: StackitError) -> AccessError:
        """Take note that GitHub refuses the key, or that it cannot be read; return the error to raise."""
        first = self.problem is None
        self._refusals = 1 if self._key.version != self._version else self._refusals + 1
        self._version = self._key.version
        self._retry_at = self._reactor.seconds() + min(_FIRST_PAUSE * 2.0 ** (self._refusals - 1), _LONGEST_PAUSE)
        self.problem = f"App {self._name}: {problem}"
        if isinstance(problem, ApiError):
            self.problem = (
                f"App {self._name}: GitHub refuses its key: put a valid one in {self._key.path}, and check app_id "
                f"({problem})"
            )
        if first:
            self._notice(self.problem)
        return AccessError(self.problem, "unauthorized")

    def accepted(self) -> bool:
        """Take note that GitHub takes the key; return True if it did not before."""
        self._refusals = 0
        if self.problem is None:
            return False
        self.problem = None
        self._notice(f"App {self._name}: GitHub takes its key again")
        return True
