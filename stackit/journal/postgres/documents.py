"""Small documents by collection and key, and the announced refs that go from one repository's key to another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.journal.postgres.arrays import Bytes, Texts
from stackit.journal.postgres.batch import Results
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ids import storable

Documents = Mapping[str, bytes | None]

# In the order of the keys, so that two who write the same do not wait for each other.
_PUT = """
    INSERT INTO documents (collection, key, document)
    SELECT %b, d.key, d.document FROM unnest(%b::text[], %b::bytea[]) AS d (key, document) ORDER BY d.key
    ON CONFLICT (collection, key) DO UPDATE SET document = excluded.document
"""
_DELETE = "DELETE FROM documents WHERE collection = %b AND key = ANY (%b::text[])"
# Which repositories there are is the leader's to say: who leads no more has not seen what the next one has written.
_FENCE = "SELECT 1 FROM shards WHERE space = 'l' AND owner = %b::int8 FOR SHARE"
_FORGET_REFS = "DELETE FROM refs WHERE repo_key = ANY (%b::text[])"
_MOVE_REFS = """
    UPDATE refs AS r SET repo_key = m.new FROM unnest(%b::text[], %b::text[]) AS m (old, new) WHERE r.repo_key = m.old
"""


def put(commit: Commit, items: Sequence[tuple[str, Documents]]) -> Results:
    """Put and delete documents, each item with its collection."""
    encoded = [(storable(collection), _Encoded(documents)) for collection, documents in items]
    yield sum(each.statements for _, each in encoded)
    for collection, each in encoded:
        each.execute(commit.connection, collection)
    yield 0
    for collection, documents in items:
        commit.changes.documents.setdefault(collection, set()).update(documents)
    return [None] * len(items)


def rename(
    commit: Commit, *, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
) -> Failure | None:
    """Give announced refs to other keys, by way of keys that no repository has, and put documents.

    Returns a Failure of JournalError where another node leads the fleet by now.
    """
    if not commit.connection.execute(_FENCE, (commit.snapshot.me,), binary=True).fetchall():
        return Failure(JournalError("another node leads the fleet by now: nothing was changed"))
    old = [storable(each) for each, _ in renames]
    new = [storable(each) for _, each in renames]
    between = [f"\n{at}" for at in range(len(renames))]
    commit.connection.execute(_MOVE_REFS, (Texts(old), Texts(between)), binary=True)
    commit.connection.execute(_FORGET_REFS, (Texts(new),), binary=True)
    commit.connection.execute(_MOVE_REFS, (Texts(between), Texts(new)), binary=True)
    _Encoded(documents).execute(commit.connection, storable(collection))
    commit.changes.documents.setdefault(collection, set()).update(documents)
    return None


class _Encoded:
    """Documents of one collection as arguments of so many ``statements``."""

    def __init__(self, documents: Documents) -> None:
        there = {storable(key): document for key, document in documents.items() if document is not None}
        gone = [storable(key) for key, document in documents.items() if document is None]
        self._put = (Texts(list(there)), Bytes(list(there.values()))) if there else None
        self._delete = Texts(gone) if gone else None
        self.statements = bool(there) + bool(gone)

    def execute(self, connection: Connection, collection: str) -> None:
        """Send the statements."""
        if self._put is not None:
            connection.execute(_PUT, (collection, *self._put), binary=True)
        if self._delete is not None:
            connection.execute(_DELETE, (collection, self._delete), binary=True)
