"""The journal of a fleet: one PostgreSQL database, which any number of nodes share.

``journal`` is the face of it. ``writer`` is one thread, which commits by ``committer`` what ``deliveries``,
``outcomes`` and others ask for; ``upkeep`` has another one, for what takes longer. ``reader`` answers ``queries``,
``notices`` speak with other nodes. ``schema`` and ``opening`` are for the start. ``ownership`` says which shards of the
work are this process's.
"""
