"""The names that plugins import: events, hooks, errors, admin requests, repositories."""
