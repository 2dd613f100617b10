"""People on the admin side: their sessions, kept in the journal, the cookie, the pages to log in and out."""
