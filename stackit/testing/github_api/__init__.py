"""The pretend GitHub's REST API: Apps, installations, tokens, repositories and their owners, limits and faults."""
