"""The process: log, clocks, signals, ports, garbage collection, watchdog."""
