"""Faults of a repository on the pretend GitHub, as a git client meets them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import shutil
from pathlib import Path
from typing import Literal, get_args

import msgspec
from twisted.internet.defer import Deferred
from twisted.web.http import Request

from stackit.api.reactor import Reactor, sleep

FaultKind = Literal[
    "echo", "hang", "hang_mid", "drip", "endless", "redirect", "truncate", "stale", 401, 403, 404, 429, 500, 502, 503
]
"""A status is answered as such. ``echo``: 500, with the credential that came in its text. ``hang``: no answer.
``hang_mid``: half an answer, then silence. ``drip``: one byte at a time. ``endless``: a fetch sees progress, and never
a pack. ``truncate``: half an answer, then the connection closes. ``redirect``: 301 to the same repository under
another host name. ``stale``: as the refs were when the fault began."""

PAUSE = 0.1
"""Seconds between two pieces of a ``drip`` or an ``endless`` answer."""

_PACK = b"000dpackfile\n"
_PROGRESS = b"001f\2Counting objects: 1 of 99\r"
_TEXTS = {
    401: b"Bad credentials",
    403: b"Repository access blocked",
    404: b"Repository not found.",
    429: b"You have exceeded a secondary rate limit.",
}


class Fault(msgspec.Struct, eq=False):
    """One fault, for ``left`` more requests (None: until it is healed), with ``pause`` seconds between two pieces."""

    kind: FaultKind
    left: int | None = None
    pause: float = PAUSE

    @property
    def answers_at_once(self) -> bool:
        """Return True if the fault answers in git's place."""
        return isinstance(self.kind, int) or self.kind in ("echo", "hang", "redirect")

    def answer(self, request: Request) -> None:
        """Answer in git's place."""
        if self.kind == "redirect":
            port = request.getHost().port
            location = f"http://localhost:{port}/moved{request.uri.decode('latin-1')}"
            return send(request, 301, b"Moved Permanently", {"Location": location})
        if self.kind == "echo":
            return send(request, 500, b"Something went wrong with " + _credential(request))
        if isinstance(self.kind, int):
            headers = {401: {"WWW-Authenticate": 'Basic realm="GitHub"'}, 429: {"Retry-After": "60"}}
            return send(request, self.kind, _TEXTS.get(self.kind, b"Something went wrong"), headers.get(self.kind, {}))
        return None  # "hang": nothing, until the client or the server ends

    async def spoil(
        self, reactor: Reactor, request: Request, status: int, headers: dict[str, str], output: bytes
    ) -> None:
        """Send git's answer, spoiled."""
        if self.kind == "endless":
            if not output.startswith(_PACK):
                send(request, status, output, headers)
                return
            send_head(request, status, headers)
            request.write(_PACK)
            while True:
                request.write(_PROGRESS)
                await sleep(reactor, self.pause)
        head = {**headers, "Content-Length": str(len(output))}
        if self.kind == "drip":
            send_head(request, status, head)
            for index in range(len(output)):
                request.write(output[index : index + 1])
                await sleep(reactor, self.pause)
            request.finish()
            return
        send_head(request, status, head)
        request.write(output[: len(output) // 2])
        if self.kind == "hang_mid":
            await Deferred()
        request.loseConnection()  # "truncate": what is written still goes out


class Faults:
    """The current fault of one repository, if any."""

    def __init__(self, path: Path) -> None:
        self.stale_path = path.with_name(f"{path.name}.stale")
        self._path = path
        self._fault: Fault | None = None

    def begin(self, kind: FaultKind, times: int | None, pause: float = PAUSE) -> None:
        """Raises ValueError for a kind that is not known."""
        if kind not in get_args(FaultKind):
            raise ValueError(f"no such fault: {kind!r} (expected one of {', '.join(map(str, get_args(FaultKind)))})")
        if kind == "stale":
            self._snapshot()
        self._fault = Fault(kind, times, pause)

    def heal(self) -> None:
        self._fault = None

    def next(self, request: Request) -> Fault | None:
        """Return the fault of this request. A request that was redirected has none."""
        fault = self._fault
        if fault is None or request.path.startswith(b"/moved/"):
            return None
        if fault.left is not None:
            fault.left -= 1
            if fault.left <= 0:
                self._fault = None
        return fault

    def _snapshot(self) -> None:
        """Make a second repository with the current refs and, through alternates, the same objects."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.stale_path)
        (self.stale_path / "objects" / "info").mkdir(parents=True)
        (self.stale_path / "objects" / "info" / "alternates").write_text(f"{self._path / 'objects'}\n")
        shutil.copytree(self._path / "refs", self.stale_path / "refs")
        for name in ("HEAD", "config", "packed-refs"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self._path / name, self.stale_path / name)


def _credential(request: Request) -> bytes:
    """Return the credential of a request as it came, and decoded."""
    header: bytes = request.requestHeaders.getRawHeaders(b"authorization", [b"nobody"])[0]
    with contextlib.suppress(binascii.Error):
        return header + b", that is " + base64.b64decode(header.partition(b" ")[2])
    return header


def send(request: Request, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Answer a request completely."""
    send_head(request, status, {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})})
    request.write(body)
    request.finish()


def send_head(request: Request, status: int, headers: dict[str, str]) -> None:
    """Begin an answer."""
    request.setResponseCode(status)
    for name, value in headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
