"""Which of several hosts is tried first: one that is gone costs seconds, and a start makes a dozen connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import ConnectionInfo

_LISTS = ("host", "hostaddr", "port")


class LastHost:
    """The host that took the last connection, by its place in the parameters. Any thread may use it."""

    def __init__(self) -> None:
        self._place = 0

    def first(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a connection with this host before the others."""
        lists, number = _lists(parameters)
        place = self._place if self._place < number else 0
        moved = {
            name: ",".join([each[place], *each[:place], *each[place + 1 :]])
            for name, each in lists.items()
            if len(each) == number  # one port may be that of all hosts
        }
        return {**parameters, **moved}

    def took(self, parameters: Mapping[str, Any], info: ConnectionInfo) -> None:
        """Take note of a connection that was made with these parameters, in their own order."""
        lists, number = _lists(parameters)
        for place in range(number):
            names = [each[place] for name, each in lists.items() if name != "port"]
            ports = lists.get("port", [])
            port = ports[place] if len(ports) == number else "".join(ports[:1])
            if info.host in names and port in ("", str(info.port)):
                self._place = place
                return


def _lists(parameters: Mapping[str, Any]) -> tuple[dict[str, list[str]], int]:
    """Return the lists of the parameters, and how many hosts they name."""
    lists = {name: str(parameters[name]).split(",") for name in _LISTS if parameters.get(name)}
    return lists, max((len(each) for name, each in lists.items() if name != "port"), default=0)
