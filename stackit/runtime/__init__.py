"""What belongs to the process: log, signals, ports, garbage collection."""
