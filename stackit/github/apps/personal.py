"""The personal tokens in files, and when they expire: shown, and told two weeks before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.api.errors import StackitError
from stackit.api.reactor import Timers
from stackit.api.repos import ManagedRepo
from stackit.api.token_file import read_token
from stackit.config.model import Config
from stackit.github.api import TokenExpiries
from stackit.text.times import rfc3339

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

WARN_BEFORE = 14 * 86400.0
"""Seconds before the end of a token in which an operator is told of it."""
LOOK_EVERY = 3600.0


class PersonalTokens(Collector):
    """A part: the tokens of repositories and of discovery, and what GitHub said of their ends.

    Only answers of the API tell of the end of a token: one that git alone uses has none that is known.
    """

    name = "personal_tokens"
    settings = ("discover",)

    def __init__(
        self,
        config: Config,
        repos: Iterable[ManagedRepo],
        expiries: TokenExpiries,
        *,
        reactor: Timers,
        now: Callable[[], float],
        notice: Callable[[str], None],
    ) -> None:
        """``repos`` are the managed repositories of the moment; ``notice`` is told of a token that expires soon."""
        self._config = config
        self._repos = repos
        self._reactor = reactor
        self._now = now
        self._expiries = expiries
        self._notice = notice
        self._told: set[tuple[Path, float]] = set()
        self._due: DelayedCall | None = None

    def start(self) -> None:
        """Look every hour."""
        self._due = self._reactor.callLater(LOOK_EVERY, self.start)
        self.look()

    async def stop(self) -> None:
        """Look no more."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def look(self) -> None:
        """Tell of each token that expires soon, once."""
        for file, end in self._ends().items():
            if end is not None and end - self._now() < WARN_BEFORE and (file, end) not in self._told:
                self._told.add((file, end))
                self._notice(self._line(file, end))

    def problems(self) -> Sequence[str]:
        """Return a line for each token that has expired."""
        return [self._line(file, end) for file, end in self._ends().items() if end is not None and end <= self._now()]

    def status(self) -> Any:
        """Return the files, and the ends of their tokens."""
        ends = self._ends().items()
        return [{"file": str(file), "expires_at": None if end is None else rfc3339(end)} for file, end in ends]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "stackit_github_token_expiry_timestamp_seconds",
            "When the personal token in a file expires, as GitHub's API said; 0 where it did not.",
            labels=["file"],
        )
        for file, end in self._ends().items():
            family.add_metric([str(file)], end or 0.0)
        yield family

    def collectors(self) -> Sequence[Collector]:
        """Return the metric of the ends."""
        return [self]

    def routes(self) -> Sequence[Route]:
        """Return none: ``GET {prefix}/github`` shows the status."""
        return ()

    def plugin(self) -> object | None:
        """Return None: no event tells of a token."""
        return None

    def change(self, new: Config) -> Callable[[], None]:
        """Return what takes the token files of a configuration."""

        def apply() -> None:
            self._config = new

        return apply

    def _ends(self) -> Mapping[Path, float | None]:
        files = {each.token_file for each in self._repos if not each.repo.host}  # those on GitHub
        files |= {each.token_file for each in self._config.discover}
        return {file: self._end_of(file) for file in sorted(each for each in files if each is not None)}

    def _end_of(self, file: Path) -> float | None:
        try:
            return self._expiries.end_of(read_token(file))
        except StackitError:
            return None  # those who need the token say so

    def _line(self, file: Path, end: float) -> str:
        left = end - self._now()
        when = f"expires in {max(1, round(left / 86400))} days, at" if left > 0 else "has expired, at"
        return f"the token in {file} {when} {rfc3339(end)}: make another at GitHub, and put it in the file"
