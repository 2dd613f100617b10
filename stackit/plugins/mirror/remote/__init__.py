"""A remote asked without git: protocol v2 over HTTP."""
