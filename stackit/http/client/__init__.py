"""The client: kept connections to a host, whole answers, bounded."""
