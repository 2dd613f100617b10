"""When what nobody asked for is done: backstop looks and maintenance."""
