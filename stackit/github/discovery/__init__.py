"""Repositories found: the listings of Apps, organizations and users, and what they change."""
