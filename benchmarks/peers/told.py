"""A plugin that leaves a file for each ref change that a push made, named by the new commit."""

from pathlib import Path

import msgspec

from stackit import RefsChanged, hookimpl


class ToldSettings(msgspec.Struct, frozen=True):
    folder: str


class Told:
    Settings = ToldSettings

    def __init__(self, settings: ToldSettings) -> None:
        self._folder = Path(settings.folder)

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        # Those of the first clone may be a hundred thousand, and nobody waits for them.
        for each in change.changes if change.cause == "push" else ():
            (self._folder / each.new).touch()
