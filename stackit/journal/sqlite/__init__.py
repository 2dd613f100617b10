"""The journal that ships: one SQLite file in the state directory.

``journal`` is the face of it. ``writer`` (one thread, group commit by ``committer``) runs ``deliveries`` and
``outcomes``, ``reader`` (another thread) ``queries`` and ``retention``. ``schema`` and ``opening`` are for the start,
``files`` and ``rescue`` for a file that somebody moved, removed or cut.
"""

from stackit.journal.sqlite.journal import SQLiteJournal

__all__ = ["SQLiteJournal"]
