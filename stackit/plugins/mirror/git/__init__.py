"""git as a child process: its command line and environment, its errors and their causes."""
