"""The plugins that are loaded, and calls of their hooks, each in isolation."""
