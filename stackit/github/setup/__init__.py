"""The set-up of a GitHub App from a manifest, by a browser, in a window that a command opens."""
