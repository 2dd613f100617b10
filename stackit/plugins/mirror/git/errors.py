"""The error that every use of git raises."""

from __future__ import annotations

from typing import Literal

from stackit import StackitError

GitErrorKind = Literal["gone", "forbidden", "moved", "throttled", "stalled", "disk", "memory", "remote", "mirror"]
"""``gone``: no such repository. ``forbidden``: access refused. ``moved``: the repository has another address.
``throttled``: the remote asks for fewer requests. ``stalled``: no progress. ``disk``: no room.
``memory``: git needs more than its limit, or than the machine has.
``remote``: any other failure of the remote or the network. ``mirror``: a failure of the mirror itself."""


class GitError(StackitError):
    """git failed; the text is the reason, in one line, without secrets.

    ``stderr``: git's messages. ``kind``: the cause, to act on. ``retry_after``: seconds in which the remote wants no
    request. ``killed``: git was killed, and could not remove its temporary files. ``status``: that of the remote's last
    HTTP answer, None without one.
    """

    def __init__(
        self,
        reason: str,
        *,
        stderr: str = "",
        kind: GitErrorKind = "mirror",
        retry_after: float | None = None,
        killed: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.stderr = stderr
        self.kind = kind
        self.retry_after = retry_after
        self.killed = killed
        self.status = status
