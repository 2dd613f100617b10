"""The mirrors of a fleet: which of them are here, their states at other nodes, second copies, and moves."""
