"""The webhooks that the journal knows: what is none of them keeps no node from its start."""

from __future__ import annotations

from pathlib import Path

import pytest_twisted
from log_capture import warnings_logged
from memory_journal import MemoryJournal
from twisted.internet import reactor

from stackit.config.model import Config
from stackit.github.hooks.secret_files import SecretFiles
from stackit.github.hooks.target import HookTarget
from stackit.github.hooks.watched import WatchedHooks


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_read_is_left_out_and_told_of_once(tmp_path: Path) -> None:
    journal = MemoryJournal(reactor)
    strange = {"a": b"{", "b": b'{"scope": 1}', "c": b'{"scope": "\xff"}', "d": b'{"scope": "no scope"}'}
    await journal.put("hooks", {**strange, "repo:octo/widget": b'{"scope": "repo:octo/widget", "id": 7, "new": []}'})
    with warnings_logged() as logged:
        hooks = WatchedHooks(journal, SecretFiles(tmp_path), lambda: Config(state_dir=tmp_path))
        hooks.begin_anew()
        await hooks.load()
    assert [each["left_out"] for each in logged] == [["a", "b", "c", "d"]]
    assert list(hooks.targets()) == ["repo:octo/widget"]
    assert hooks.id_of(HookTarget.parse("octo/widget")) == 7
    assert len(await journal.documents("hooks")) == 5  # it may be of a newer node
