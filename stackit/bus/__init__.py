"""The loaded plugins, and calls of their hooks, each in isolation."""
