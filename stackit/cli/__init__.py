"""The shell commands, which ask the admin side."""
