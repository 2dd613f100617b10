"""Secrets in files that are replaced at run time, and their removal from texts."""
