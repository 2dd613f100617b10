"""The registry of managed repositories: from the configuration, from people and from discovery, kept in the journal.

``catalog`` says which repository is managed under which name, ``merging`` what discovery changes of that. A change is
planned, made durable in one transaction of the journal, and then taken by ``stackit.Repos``.
"""

from stackit.registry.errors import ConflictError, NotLeaderError, UnknownError
from stackit.registry.records import COLLECTION, Record
from stackit.registry.registry import Registry
from stackit.registry.sightings import Batch, Discovered, Seen

__all__ = [
    "COLLECTION",
    "Batch",
    "ConflictError",
    "Discovered",
    "NotLeaderError",
    "Record",
    "Registry",
    "Seen",
    "UnknownError",
]
