"""Take the pictures of docs/images: ``make screenshots``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest_twisted
from browser import Browser, Place, Window

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PAGES = {
    "overview": "/",
    "deliveries": "/deliveries",
    "repositories": "/repos",
    "repository": "/repos/octo/gadget",
    "plugins": "/plugins",
    "github": "/github",
    "audit": "/audit",
}


@pytest_twisted.ensureDeferred
async def test_every_page_has_its_picture(
    browser: Browser, open_window: Callable[..., Awaitable[Window]], place: Place
) -> None:
    IMAGES.mkdir(exist_ok=True)
    for _ in range(4):
        for repo in ("octo/widget", "octo/gadget"):
            await place.server.wait_for(await place.push(repo), visible=True)
    light, dark, phone = await open_window(), await open_window(scheme="dark"), await open_window(phone=True)

    def take() -> None:
        light.page.goto(place.url)
        light.screenshot(IMAGES / "login.png")
        for window in (light, dark, phone):
            window.log_in(place.url)
        for name, path in PAGES.items():
            light.page.goto(place.url + path)
            light.page.get_by_text("live", exact=True).wait_for()
            light.screenshot(IMAGES / f"{name}.png")
        light.page.goto(f"{place.url}/deliveries?event=push")
        light.page.locator("main td a[href^='/deliveries/']").first.click()
        light.page.get_by_role("heading", name="Receipt").wait_for()
        light.screenshot(IMAGES / "delivery.png")
        for window, name in ((dark, "overview-dark"), (phone, "overview-phone")):
            window.page.goto(place.url)
            window.page.get_by_text("live", exact=True).wait_for()
            window.screenshot(IMAGES / f"{name}.png")

    await browser.run(take)
    assert {each.stem for each in IMAGES.glob("*.png")} == {
        *PAGES,
        "login",
        "delivery",
        "overview-dark",
        "overview-phone",
    }
