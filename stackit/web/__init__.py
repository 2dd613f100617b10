"""The public receiver and the admin side."""
