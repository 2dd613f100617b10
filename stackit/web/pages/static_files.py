"""The stylesheet, the script and the icon, under names that change with their content."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

import msgspec

from stackit.api.admin import AdminRequest, Response, Route

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_NAMES = ("style.css", "script.js", "icon.svg")


class StaticFile(msgspec.Struct, frozen=True):
    """One file: its path, its content, and the hash of that."""

    path: str
    content: bytes
    digest: str
    content_type: str

    def answer(self, _request: AdminRequest) -> Response:
        """Return the file. A browser keeps it for good: another content has another path."""
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{self.digest}"'}
        return Response(body=self.content, content_type=self.content_type, headers=headers)


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return the files by their plain names."""
    return MappingProxyType({name: _read(name) for name in _NAMES})


def static_routes() -> list[Route]:
    """Return the route of each file. They are open: the page to log in needs them too, and they tell nothing."""
    return [
        Route("GET", each.path, each.answer, open=True, summary="Return a file of the pages.")
        for each in static_files().values()
    ]


def _read(name: str) -> StaticFile:
    content = (files("stackit.web.pages") / "static" / name).read_bytes()
    stem, _, kind = name.partition(".")
    digest = sha256(content).hexdigest()[:16]
    return StaticFile(f"/static/{stem}-{digest}.{kind}", content, digest, _TYPES[kind])
