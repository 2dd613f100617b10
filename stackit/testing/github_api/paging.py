"""Pages of lists, as the API cuts and links them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from stackit.testing.github_api.answers import ApiRequest

BIGGEST_PAGE = 100
USUAL_PAGE = 30

Item = TypeVar("Item")


def page_of(request: ApiRequest, items: Sequence[Item]) -> tuple[Sequence[Item], dict[str, str]]:
    """Return the items of the page that is asked for, and the ``Link`` header.

    Pages are cut from the list of this moment: what leaves it between two requests moves all after it forward.
    """
    size = min(_number(request, "per_page", USUAL_PAGE), BIGGEST_PAGE)
    page = page_number(request)
    last = max(1, -(-len(items) // size))
    links: dict[str, int] = {}
    if page > 1:
        links |= {"prev": min(page - 1, last)}
    if page < last:
        links |= {"next": page + 1, "last": last}
    if page > 1:
        links |= {"first": 1}
    text = ", ".join(f'<{_url(request, number)}>; rel="{name}"' for name, number in links.items())
    return items[(page - 1) * size : page * size], {"Link": text} if text else {}


def page_number(request: ApiRequest) -> int:
    """Return the number of the page that is asked for, from 1."""
    return _number(request, "page", 1)


def _url(request: ApiRequest, page: int) -> str:
    return f"{request.api_url}{request.path}?{urlencode({**request.query, 'page': page})}"


def _number(request: ApiRequest, name: str, usual: int) -> int:
    """Return a positive number of the query; what is none counts as not given."""
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else usual
