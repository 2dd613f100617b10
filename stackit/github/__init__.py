"""What stackit knows of GitHub: its signatures and its payloads."""
