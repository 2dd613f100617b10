"""``--demo``: the real stackit beside a pretend GitHub, and a story of pushes, forgeries, renames and outages.

The service, the sockets, the signatures, the App's tokens and git are real; only github.com is not.
"""
