"""HTTP/1.1, and nothing of stackit: a bounded server and a lean client."""
