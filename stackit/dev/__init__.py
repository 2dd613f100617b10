"""``stackit dev``: one plugin in a stackit of its own, started again whenever its code changes."""
