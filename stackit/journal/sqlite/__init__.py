"""The journal that ships: one SQLite file in the state directory.

``journal`` is the face of it. ``writer`` (one thread, group commit) runs what ``deliveries`` and ``outcomes`` have,
``reader`` (another thread) what ``queries`` and ``retention`` have. ``schema`` and ``opening`` are for the start,
``files`` and ``rescue`` for a file that somebody moved, removed or cut.
"""

from stackit.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]
