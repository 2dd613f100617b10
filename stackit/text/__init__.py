"""Pure functions over text: times, units, tables, log fields, escaping, redaction."""
