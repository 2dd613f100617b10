"""Background work on the mirrors: the backstop's rounds and maintenance."""
