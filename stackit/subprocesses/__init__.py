"""Child processes in groups of their own, bounded in time, output and memory."""
