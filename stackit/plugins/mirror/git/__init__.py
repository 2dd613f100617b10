"""git as a child process: how it is run, and what its errors mean."""
