"""Live: what stackit does, told to people and programs that watch, as server-sent events."""
