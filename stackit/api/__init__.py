"""What plugins import, and what everything else speaks in: events, hooks, errors, admin requests."""
