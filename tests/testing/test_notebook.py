"""The notebook of a plugin, as tests read it that fill the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from outside import Notebook

NOTING = """
import notebook, resource
notebook.note(by="events", guid="first")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
try:
    notebook.note(by="events", guid="cut short")
except OSError as full:
    print(full.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
notebook.note(by="events", guid="cut short")
"""


def test_a_note_that_a_full_disk_cut_short_is_no_note_and_harms_no_other(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    command = [sys.executable, "-c", NOTING]
    done = subprocess.run(command, cwd=tmp_path, env=notebook.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    lines = [line for line in (tmp_path / "notes").read_text().splitlines() if line]
    assert lines[1] == lines[2][: len(lines[1])] != lines[2]
    assert [note["guid"] for note in notebook.read()] == ["first", "cut short"]
