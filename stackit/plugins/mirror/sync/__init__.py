"""One repository brought in step: rounds, fetches, clones, announcements."""
