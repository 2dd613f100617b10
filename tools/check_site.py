"""A check of a built site: every link leads somewhere, and nothing is fetched from another host.

``python tools/check_site.py site`` prints each fault, and ends with status 1 if there is one.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHES = {"img": "src", "script": "src", "link": "href", "source": "srcset", "iframe": "src", "use": "href"}
"""Attributes by whose address a browser fetches something without a click."""


class Links(HTMLParser):
    """The links of a page, what it fetches, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if FETCHES.get(tag) in found:
            self.fetched.append(found[FETCHES[tag]])


def faults(site: Path) -> list[str]:
    """Return the faults of a site, one line each."""
    pages = {page: Links(page) for page in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no pages"]
    for page, links in pages.items():
        where = page.relative_to(site)
        found += [f"{where} fetches {each}" for each in links.fetched if urlsplit(each).netloc]
        # The page of a 404 is shown at any address, so its links begin at the root.
        base = site if page.name == "404.html" else page.parent
        for each in {*links.links, *links.fetched}:
            parts = urlsplit(each)
            if parts.scheme or parts.netloc:
                continue
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: {each} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: {each} has no such anchor")
    return found


def main(site: str) -> int:
    found = faults(Path(site).resolve())
    for each in found:
        print(each)
    print(f"{site}: {len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
