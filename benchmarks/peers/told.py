"""A plugin that leaves a file for each ref change that a push made, named by the new commit."""

from pathlib import Path

import msgspec

from stackit import RefsChanged, hookimpl


class Settings(msgspec.Struct, frozen=True):
    folder: str


class Told:
    Settings = Settings

    def __init__(self, settings: Settings) -> None:  # type: ignore[valid-type]
        self._folder = Path(settings.folder)  # type: ignore[attr-defined]

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        # Those of the first clone may be a hundred thousand, and nobody waits for them.
        for each in change.changes if change.cause == "push" else ():
            (self._folder / each.new).touch()
