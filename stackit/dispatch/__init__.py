"""Deliveries from the journal to handlers: first tries, retries, dead letters, replays."""
