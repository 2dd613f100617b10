"""The pages of a running stackit, as a browser without a script asks for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest_twisted
from waiting import until

from stackit.testing import PretendGitHub, payload_for

PLUGIN = """
from stackit import App, Page, PageRequest, Panel, Permanent, Template, hookimpl, on

NAMES = Template("<ul>{% for each in names %}<li>{{ each }}</li>{% endfor %}</ul>")

@on("push")
def fails(push):
    raise Permanent("<script>alert('error')</script>")

@hookimpl
def stackit_pages(app: App):
    async def show(request: PageRequest):
        return NAMES.render(names=[each["name"] for each in (await request.get("/repos"))["repos"]])

    def wave(request: PageRequest):
        return f"Waved to {request.form['to']}."

    def broken(request: PageRequest):
        raise RuntimeError("a defect")

    return [
        Page("/names", "Names", show, nav="Names", actions={"wave": wave}),
        Page("/broken", "Broken", broken),
        Panel("A panel", show),
        Panel("A broken panel", broken),
    ]
"""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def text(answer: Any) -> str:
    found: str = answer.body.decode()
    return found


@pytest_twisted.ensureDeferred
async def test_a_push_and_its_dead_letter_are_seen_and_replayed(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    (tmp_path / "failing.py").write_text(PLUGIN)
    repos = [{"name": "octo/widget", "url": await pretend_github.create("octo/widget")}]
    server = await running_stackit(
        config={"repos": repos, "plugins": {"failing": {"module": "failing"}}}, plugins=tmp_path
    )
    body = {**payload_for("push", repo="octo/widget"), "note": "<script>alert('payload')</script>\u202e"}
    assert (await server.deliver("push", body, guid="hostile")).status == 202
    await server.wait_for("hostile", "dead")

    overview = await server.ask("GET", f"{server.admin_url}/")
    assert overview.status == 200, server.log[-3000:]
    for said in (
        "<h1>Overview</h1>",
        ">Names</a>",
        "A panel",
        "<li>octo/widget</li>",
        "This panel cannot be shown now",
    ):
        assert said in text(overview), said
    told = "plugin failing: panel A broken panel failed: RuntimeError: a defect"
    await until(lambda: told in server.log, "the log to tell")

    listed = text(await server.ask("GET", f"{server.admin_url}/deliveries?state=dead&repo=octo%2Fwidget&event="))
    (path,) = re.findall(r'<a href="(/deliveries/[^"?]+)"', listed)
    shown = text(await server.ask("GET", server.admin_url + path))
    assert "&lt;script&gt;alert(&#39;payload&#39;)&lt;/script&gt;\\u202e" in shown
    assert "&lt;script&gt;alert(&#39;error&#39;)" in shown
    assert '<a href="/repos/octo/widget">octo/widget</a>' in shown
    assert "<script>alert" not in shown
    assert "\u202e" not in shown

    # A form of this very host needs no header of its own; one of another site is refused.
    form = urlencode({"csrf": "", "subscriber": "failing"}).encode()
    for origin in ("http://evil.example", "null", f"{server.admin_url}.evil.example"):
        answer = await server.ask(
            "POST", f"{server.admin_url}{path}/replay", body=form, headers={**FORM, "Origin": origin}
        )
        assert answer.status == 403, origin
    own = {**FORM, "Origin": server.admin_url}
    replayed = await server.ask("POST", f"{server.admin_url}{path}/replay", body=form, headers=own)
    assert (replayed.status, "Replayed: 1 handler runs again." in text(replayed)) == (200, True)
    again = text(await server.ask("GET", server.admin_url + path))
    assert "Replayed: 1 handler" not in again

    waved = await server.ask("POST", f"{server.admin_url}/names/wave", body=b"to=%3Cb%3E", headers=own)
    assert "Waved to &lt;b&gt;." in text(waved)
    broken = await server.ask("GET", f"{server.admin_url}/broken")
    assert (broken.status, "<h1>Something went wrong</h1>" in text(broken)) == (500, True)
    missing = await server.ask("GET", f"{server.admin_url}/deliveries/nothing")
    assert (missing.status, "no such delivery" in text(missing)) == (404, True)
    refused = await server.ask("GET", f"{server.admin_url}/deliveries?since=never")
    assert (refused.status, "expected a time" in text(refused)) == (400, True)


@pytest_twisted.ensureDeferred
async def test_a_page_needs_no_other_host_and_no_inline_script_or_style(
    running_stackit: Any,
) -> None:
    server = await running_stackit()
    page = await server.ask("GET", f"{server.admin_url}/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "same-origin"
    assert len(page.body) < 100_000
    assert not re.search(r"<script>|<style|\sstyle=|\son[a-z]+=|https?://", text(page))
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', text(page)):
        file = await server.ask("GET", server.admin_url + path)
        assert (file.status, file.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert "http://" not in text(file).replace("http://www.w3.org/2000/svg", "")


@pytest_twisted.ensureDeferred
async def test_the_page_of_the_tutorial_is_in_the_menu_and_on_the_overview(
    running_stackit: Any, tmp_path: Path
) -> None:
    tutorial = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n# deploys\.py\n(.*?)^```$", tutorial, re.MULTILINE | re.DOTALL)
    (tmp_path / "deploys.py").write_text(code)
    server = await running_stackit(
        config={"read_only": True, "plugins": {"deploys": {"module": "deploys"}}}, plugins=tmp_path
    )
    assert (await server.deliver("push", guid="deployed")).status == 202
    await server.wait_for("deployed")
    overview = text(await server.ask("GET", f"{server.admin_url}/"))
    assert '<a href="/deploys">Deploys</a>' in overview
    page = text(await server.ask("GET", f"{server.admin_url}/deploys"))
    for each in (page, overview):
        assert re.search("<li>octo/widget at [0-9a-f]{40}</li>", each)
    assert '<a href="/deploys" aria-current="page">' in page

    # In read-only mode a delivery has no button, and says why.
    listed = text(await server.ask("GET", f"{server.admin_url}/deliveries"))
    (path,) = re.findall(r'<a href="(/deliveries/[^"?]+)"', listed)
    shown = text(await server.ask("GET", server.admin_url + path))
    assert ">read-only</span>" in shown
    assert "<button" not in shown.partition("<main")[2]
