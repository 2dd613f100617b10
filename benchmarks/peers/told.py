"""A plugin that leaves a file for each ref change that it is told of, named by the new commit."""

from pathlib import Path

import msgspec

from stackit import RefsChanged, hookimpl


class Settings(msgspec.Struct, frozen=True):
    folder: str


class Told:
    Settings = Settings

    def __init__(self, settings: Settings) -> None:
        self._folder = Path(settings.folder)

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        for each in change.changes:
            (self._folder / each.new).touch()
