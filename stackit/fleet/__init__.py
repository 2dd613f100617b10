"""Membership of a fleet: the leases of its nodes, the shards that they own and give to each other, and their mirrors.

``fleet`` is the service, ``session`` its thread and connection, ``statements`` what it asks the database. ``plan``
decides, without a database, what a node has to do about the shards that it sees; ``placement`` which node should have
which.
"""
