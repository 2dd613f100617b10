"""Refs as values, without git or a network: a remote's list, refspecs, a mirror's snapshot."""
