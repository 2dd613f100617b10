"""From the journal to handlers and back: first tries, retries, dead letters, replays."""
