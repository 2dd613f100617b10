"""The states of a connection."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """States of a connection, in the order of a request's life."""

    IDLE = 0
    """Between two requests: nothing of the next one has come."""
    READING_HEAD = 1
    """A head is to come, or is here in part. A new connection begins so."""
    YIELDED = 2
    """More requests are here, and other connections have their turn before."""
    READING_BODY = 3
    HANDLING = 4
    """A whole request waits for its response. This time is the handler's: it has no deadline."""
    STREAMING = 5
    """The head of the response is sent, and its body is written bit by bit. It is the last of its connection."""
    DRAINING = 6
    """The last response is written: what still comes is thrown away, until the client has read it."""
    CLOSED = 7


# An attribute of a module is found faster than one of an enum.
IDLE, READING_HEAD, YIELDED, READING_BODY, HANDLING, STREAMING, DRAINING, CLOSED = State
