"""The receipt of a delivery as a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stackit.text.times import parse_rfc3339


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what happened ``at`` a time ("" for one that is to come), and how long after the receipt.

    ``state`` colours it, ``handling`` is that of a handler, from the API.
    """

    title: str
    state: str
    at: str = ""
    after: float | None = None
    note: str = ""
    handling: Mapping[str, Any] | None = None


def timeline(delivery: Mapping[str, Any]) -> Sequence[Step]:
    """Return the steps of a receipt in the order of their times; those that are to come stand last."""
    begun = delivery["received_at"]
    came = {"webhook": "Received and signed", "api": "Missed, and taken from GitHub's own list"}
    steps = [
        Step(
            title=came.get(delivery.get("via") or "webhook", "Received"),
            state="done",
            at=begun,
            note="On disk before the answer was sent.",
        )
    ]
    later = [_handled(each, begun) for each in delivery["handlings"]]
    if delivery["visible_at"]:
        later.append(
            Step(
                title="Visible in the mirror",
                state="done",
                at=delivery["visible_at"],
                after=_after(delivery["visible_at"], begun),
                note="Whoever fetches from the mirror gets the pushed commit.",
            )
        )
    return [*steps, *sorted(later, key=lambda step: (not step.at, step.at))]


def _handled(handling: Mapping[str, Any], begun: str) -> Step:
    state, attempts = handling["state"], handling["attempts"]
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    endings = {"done": f"Handled in {tries}.", "dead": f"Given up after {tries}."}
    waiting = f"Waits for its next try, after {tries}." if attempts else "Waits for its turn."
    at = handling["finished_at"] or ""
    return Step(
        title=handling["subscriber"],
        state=state,
        at=at,
        after=_after(at, begun) if at else None,
        note=endings.get(state, waiting),
        handling=handling,
    )


def _after(at: str, begun: str) -> float:
    return max(0.0, parse_rfc3339(at) - parse_rfc3339(begun))
