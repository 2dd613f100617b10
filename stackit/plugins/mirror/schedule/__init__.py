"""Work that nobody asked for: looks of the backstop and maintenance."""
