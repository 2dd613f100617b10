"""The answers of plugins for ``/readyz``."""

from __future__ import annotations

from twisted.python.failure import Failure

from stackit.api.hookspecs import stackit_health
from stackit.api.reactor import Reactor
from stackit.api.tracebacks import describe_with_place
from stackit.bus.bus import Bus, WrongResult

_LONGEST = 500


async def plugin_problems(bus: Bus, reactor: Reactor, seconds: float = 5.0) -> list[str]:
    """Return the problems that plugins report, one line each; an exception is one, and so is no answer in time."""

    def failed(failure: Failure) -> str:
        return (
            str(failure.value)
            if isinstance(failure.value, WrongResult)
            else describe_with_place(failure.value, bus.redact)
        )

    asked = [(plugin, ask()) for plugin, ask in bus.ask(stackit_health, reactor, timeout=seconds)]
    answers = [(plugin, await answer.addCallback(_line).addErrback(failed)) for plugin, answer in asked]
    return [bus.redact(f"{plugin}: {problem}")[:_LONGEST] for plugin, problem in answers if problem]


def _line(answer: str | bool | None) -> str:
    return " ".join(answer.split()) if isinstance(answer, str) else ""
