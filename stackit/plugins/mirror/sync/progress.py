"""The progress of a first clone, reported from time to time: else a large one seems to hang."""

from __future__ import annotations

import re

from stackit import App, Occurrence, Repo

EVERY = 10.0
_PROGRESS = re.compile(rb"((?:Receiving objects|Resolving deltas|remote: [A-Z][a-z ]+): +\d[^\r\n]*)[\r\n]")


class Progress:
    """Called with each piece of git's stderr; reports the progress every ten seconds."""

    def __init__(self, app: App, repo: Repo) -> None:
        self._app = app
        self._repo = repo
        self._told_at = app.reactor.seconds()

    def __call__(self, piece: bytes) -> None:
        now = self._app.reactor.seconds()
        if now - self._told_at < EVERY:
            return
        found = _PROGRESS.findall(piece)
        if found:
            self._told_at = now
            where = self._app.redact(" ".join(found[-1].decode("utf-8", "replace").split()))[:100]
            self._app.observe(Occurrence(name="notice", repo=self._repo, reason=f"first clone: {where}"))
