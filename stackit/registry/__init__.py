"""The registry of managed repositories: from the configuration, from people and from discovery, kept in the journal.

``catalog`` says which repository is managed under which name, ``merging`` what discovery changes of that. A change is
planned, made durable in one transaction of the journal, and then taken by ``stackit.Repos``.
"""

from stackit.registry.records import COLLECTION, Record
from stackit.registry.registry import ConflictError, Registry, UnknownError
from stackit.registry.sightings import Batch, Discovered, Seen

__all__ = ["COLLECTION", "Batch", "ConflictError", "Discovered", "Record", "Registry", "Seen", "UnknownError"]
