"""The reactor's pool of threads, in which Twisted resolves names."""

from __future__ import annotations

# The first name that is resolved imports it. Where no descriptor is left for its file by then, the request for the name
# never ends.
import encodings.idna  # noqa: F401
from typing import Any

_THREADS = 4


def keep_threads(reactor: Any) -> None:
    """Have the pool start all its threads with the reactor, and no further one.

    Where the system has no thread left at the moment of a request, Twisted loses the request: its Deferred never fires.
    ``reactor`` is Twisted's.
    """
    reactor.getThreadPool().adjustPoolsize(_THREADS, _THREADS)
