"""What makes a site of the documentation: pages and files from outside of ``docs/``, for which mkdocs calls this."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Pages outside of ``docs/``, and their names in the site."""

SOURCES = {name: source for source, name in PAGES.items()}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of ``docs/``, and each file that a page links to."""
    for source, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    linked: set[str] = set()
    for page in files.documentation_pages():
        for _, _, target, _ in LINK.findall(page.content_string):
            found = _found(_source(page.src_uri), target)
            if found is not None and (ROOT / found).is_file() and _in_site(found).startswith("files/"):
                linked.add(found)
    for each in sorted(linked):
        files.append(File.generated(config, _in_site(each), abs_src_path=str(ROOT / each)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - as mkdocs calls it
    """Turn links of the checkout into those of the site. What leads nowhere stays as it is, and fails the build."""
    source = _source(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        found = _found(source, target)
        if found is None:
            return link[0]
        if (ROOT / found).is_dir():
            return text  # a site has no folders
        return f"{image}[{text}]({_in_site(found)}{anchor})"

    return LINK.sub(turned, markdown)


def _source(name: str) -> str:
    """Return the path in the checkout of a page of the site."""
    return SOURCES.get(name, f"docs/{name}")


def _found(source: str, target: str) -> str | None:
    """Return the path in the checkout of what a link leads to; None for other hosts and for what is not there."""
    if ":" in target:
        return None
    path = os.path.normpath(PurePosixPath(source).parent / target)
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _in_site(path: str) -> str:
    """Return the path in the site of a file of the checkout. All pages are in the first folder."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
