"""Leaves without a state: times, units, tables, log fields, redaction."""
