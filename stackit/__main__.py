"""``python -m stackit``: the program ``stackit``."""

from __future__ import annotations

from stackit.cli.main import main

if __name__ == "__main__":
    main()
