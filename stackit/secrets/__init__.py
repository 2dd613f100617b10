"""Secrets in files that people replace, and texts freed of them."""
