"""All of a journal, from SQLite into PostgreSQL and back, while nobody works on either."""
