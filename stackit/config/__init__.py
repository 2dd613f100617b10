"""Command line, environment and file, as one typed configuration."""
