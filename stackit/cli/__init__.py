"""The shell commands, which ask the admin side of the running stackit."""
