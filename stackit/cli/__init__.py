"""The shell commands. Nearly all ask the admin side of the running stackit."""
