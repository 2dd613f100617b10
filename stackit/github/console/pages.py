"""The page *GitHub*, and a panel with what is wrong there. All that they show and do is asked of the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from stackit.api.pages import Done, Page, PageError, PageRequest, Panel
from stackit.api.reactor import Reactor, within
from stackit.html.templates import Templates

_PATH = "/github"
_PATIENCE = 1.0
"""Seconds in which the leader has to answer a panel: one that takes longer than two is left out of the overview."""


def github_pages(
    problems: Callable[[], Sequence[str]], leads: Callable[[], bool], reactor: Reactor
) -> list[Page | Panel]:
    """Return the page and the panel.

    ``problems`` returns what an operator has to know, a line each. In a fleet, the leader knows most of it: ``leads``
    returns whether that is this node.
    """

    def together(of_leader: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*of_leader, *problems()]))

    async def panel(request: PageRequest) -> Markup:
        try:
            of_leader = [] if leads() else await _of_leader(request, reactor)
        except PageError as problem:
            of_leader = [str(problem)]
        return _templates().render("problems.html", request=request, problems=together(of_leader))

    async def show(request: PageRequest) -> Markup:
        status = await request.get("/github")
        hooks = status["hooks"]
        return _templates().render(
            "github.html",
            request=request,
            status=status,
            problems=together(status.get("problems", [])),
            hooks=hooks if isinstance(hooks, list) else [],
            hooks_problem="" if isinstance(hooks, list) else hooks["problem"],
            held=any(each["held"] for source in status["discovery"]["sources"] for each in source["listings"]),
            lost=any(not each["acknowledged_at"] for hook in status["recovery"] for each in hook["lost"]),
        )

    actions = {"discover": _discover, "accept": _accept, "recover": _recover, "acknowledge": _acknowledge}
    return [Page(_PATH, "GitHub", show, nav="GitHub", actions=actions), Panel("GitHub", panel, path=_PATH)]


async def _of_leader(request: PageRequest, reactor: Reactor) -> Sequence[str]:
    """Return what an operator has to know of the leader. Raises PageError, also where it does not answer in time."""
    try:
        status = await within(reactor, _PATIENCE, request.get("/github"))
    except TimeoutError:
        text = f"the leader has not answered within {_PATIENCE:g} s: what it knows of GitHub is not shown here"
        raise PageError(504, text) from None
    found: Sequence[str] = status.get("problems", [])
    return found


async def _discover(request: PageRequest) -> Done:
    return _read(await request.send("POST", "/discover"))


async def _accept(request: PageRequest) -> Done:
    return _read(await request.send("POST", "/discover", {"accept": "removals"}))


def _read(answer: dict[str, Any]) -> Done:
    listings = answer["listings"]
    changes = sum(repo["change"] not in ("none", "held") for each in listings for repo in each["repos"])
    failed = sum(not each["complete"] for each in listings)
    more = f" {failed} could not be read whole." if failed else ""
    return Done(f"Listings read: {len(listings)}. Changes: {changes}.{more}")


async def _recover(request: PageRequest) -> Done:
    hooks = (await request.send("POST", "/recover"))["hooks"]
    failed = sum(each["error"] is not None for each in hooks)
    more = f" {failed} lists could not be read." if failed else ""
    return Done(f"Missed deliveries found: {sum(each['missed'] for each in hooks)}.{more}")


async def _acknowledge(request: PageRequest) -> Done:
    await request.send("POST", "/recover", {"acknowledge": "1"})
    return Done("Noted: the lost deliveries are known.")


def _templates() -> Templates:
    return Templates("stackit.github.console")
