"""The state of the process and of what it stands on, as metrics show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of the running stackit. To take them waits for no disk of the state directory.

    ``stuck`` has a line for each thread that does not move, ``journal_problems`` one for each thing that is wrong with
    the journal. ``file_sizes`` are those of the journal's files, in bytes by their name. ``disk_free`` and
    ``disk_size`` are bytes of the disk of the state directory, None where they could not be read. ``secrets`` are the
    webhook secrets, each by the name of its forge and its file or variable: True where a delivery can verify by it.
    """

    stuck: Sequence[str] = ()
    journal_problems: Sequence[str] = ()
    file_sizes: Mapping[str, int] = MappingProxyType({})
    disk_free: int | None = None
    disk_size: int | None = None
    secrets: Mapping[tuple[str, str], bool] = MappingProxyType({})
