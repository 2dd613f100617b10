"""What stackit answers over HTTP: the public receiver and the admin side."""
