"""People who log in with GitHub: by a browser or by a code, with a role that GitHub is asked for again and again."""
