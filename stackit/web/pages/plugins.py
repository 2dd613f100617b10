"""The page of plugins: what is loaded and left out, how handlers do, and what a person does about one."""

from __future__ import annotations

from stackit.api.pages import Page, PageError, PageRequest, View
from stackit.html.templates import Templates


def plugins_page() -> Page:
    """Return the page."""
    return Page(
        "/plugins",
        "Plugins",
        _show,
        nav="Plugins",
        actions={"pause": _pause, "resume": _resume, "replay": _replay},
    )


async def _show(request: PageRequest) -> View:
    plugins = await request.get("/plugins")
    handlers = [
        {**handler, "plugin": plugin["name"], "state": "paused" if handler["paused"] else "active"}
        for plugin in plugins["plugins"]
        for handler in plugin["handlers"]
    ]
    body = Templates("stackit.web.pages").render(
        "plugins.html",
        request=request,
        plugins=plugins["plugins"],
        left_out=plugins["left_out"],
        unloaded=plugins["unloaded"],
        handlers=sorted(handlers, key=lambda each: str(each["subscriber"])),
    )
    return View(body=body)


async def _pause(request: PageRequest) -> str:
    answer = await request.send("POST", f"/subscribers/{_subscriber(request)}/pause")
    return f"{answer['subscriber']} is paused: its events wait in the journal until it is resumed."


async def _resume(request: PageRequest) -> str:
    answer = await request.send("POST", f"/subscribers/{_subscriber(request)}/resume")
    return f"{answer['subscriber']} is resumed; {answer['pending']} pending."


async def _replay(request: PageRequest) -> str:
    query = {"state": "dead", "subscriber": _subscriber(request)}
    replayed = (await request.send("POST", "/deliveries/replay", query))["replayed"]
    return f"Replayed: {replayed} dead letter{' runs' if replayed == 1 else 's run'} again."


def _subscriber(request: PageRequest) -> str:
    name = request.form.get("subscriber", "")
    if not name:
        raise PageError(400, "The form names no handler.")
    return name
