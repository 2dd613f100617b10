"""The server: every connection is bounded in bytes, in time and in number."""
