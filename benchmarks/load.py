"""The load: signed pushes over connections that are kept open, each sent as soon as the last is answered.

Runs as a process of its own, on a core of its own, and prints what it saw as JSON. Every delivery has
an id and a body that no other has, so that nothing can be answered from memory. The body of one repository is the
same but for its last bytes: the hash of what is the same is computed once, or the load could not keep ahead.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import select
import socket
import time
import uuid
from collections import Counter
from typing import Any

import msgspec

from stackit.testing import Commit, push_payload
from stackit.testing.objects import commit

REPOSITORIES = 100
"""Pushes are about so many repositories in turn, none of which is mirrored."""

_CONTENT_LENGTH = b"content-length:"
_LAST_CHUNK = b"0\r\n\r\n"


class Deliveries:
    """An endless supply of signed deliveries; ``next`` gives the parts of a request, to be sent one after the other."""

    def __init__(self, path: str, secret: bytes, size: int) -> None:
        self._made = 0
        # Unlike those of any other run: the server may have seen them.
        self._run = uuid.uuid4().hex[:12]
        commits = _commits(size)
        self._kinds = [self._kind(path, secret, number, commits, size) for number in range(REPOSITORIES)]

    def next(self) -> list[bytes]:
        self._made += 1
        head, body, sha1, sha256 = self._kinds[self._made % REPOSITORIES]
        own = b"%s%012d" % (self._run.encode(), self._made)
        end = own + b'"}'
        sha1, sha256 = sha1.copy(), sha256.copy()
        sha1.update(end)
        sha256.update(end)
        signed = b"%s%s\r\nX-Hub-Signature: sha1=%s\r\nX-Hub-Signature-256: sha256=%s\r\n\r\n" % (
            head,
            b"%s-%s-%s-%s-%s" % (own[:8], own[8:12], own[12:16], own[16:20], own[20:].rjust(12, b"0")),
            sha1.hexdigest().encode(),
            sha256.hexdigest().encode(),
        )
        return [signed, body, end]

    def _kind(
        self, path: str, secret: bytes, number: int, commits: list[Commit], size: int
    ) -> tuple[bytes, bytes, Any, Any]:
        body = _payload(f"bench/repository-{number}", commits, size - 39)[:-1] + b',"benchmark":"'
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: GitHub-Hookshot/044aadd\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body) + 26}\r\n"
            "X-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\n"
            f"X-GitHub-Hook-Installation-Target-ID: {1000 + number}\r\n"
            "X-GitHub-Hook-Installation-Target-Type: repository\r\nX-GitHub-Delivery: "
        )
        return head.encode(), body, hmac.new(secret, body, hashlib.sha1), hmac.new(secret, body, hashlib.sha256)


def _payload(repo: str, commits: list[Commit], size: int) -> bytes:
    """A push of these commits, filled up to ``size`` bytes."""
    text: bytes = msgspec.json.encode(push_payload(repo, commits=commits))
    return text[:-1] + b',"fill":"%s"}' % (b"x" * (size - len(text) - 10))


def _commits(size: int) -> list[Commit]:
    """As many commits as a push of ``size`` bytes has room for."""
    commits: list[Commit] = []
    room = size - len(msgspec.json.encode(push_payload("bench/repository-00", commits=[]))) - 1000
    while room > 0:
        number = len(commits)
        paths = tuple(f"source/part-{number}/file-{each}.py" for each in range(4))
        made = Commit(id=f"{number:040x}", tree=f"{number + 7:040x}", message=f"Change {number}", modified=paths)
        commits.append(made)
        room -= len(msgspec.json.encode(commit(made, "https://github.com/bench/repository-00"))) + 1
    return commits[:-1]


class Connection:
    """One connection: a request on its way, or an answer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        self.socket.setblocking(False)
        self.sent_at = 0.0
        self.unsent = b""
        self._answer = b""

    def send(self, parts: list[bytes]) -> None:
        sent = self.socket.sendmsg(parts)
        if sent < sum(map(len, parts)):
            self.unsent = b"".join(parts)[sent:]

    def send_rest(self) -> None:
        self.unsent = self.unsent[self.socket.send(self.unsent) :]

    def receive(self) -> int | None:
        """The status of the answer, once it is here whole."""
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed the connection")
        answer = self._answer + received
        head, found, body = answer.partition(b"\r\n\r\n")
        if not found or not _whole(head.lower(), body):
            self._answer = answer
            return None
        self._answer = b""
        return int(answer[9:12])


def _whole(head: bytes, body: bytes) -> bool:
    if _CONTENT_LENGTH in head:
        return len(body) >= int(head.partition(_CONTENT_LENGTH)[2].partition(b"\r\n")[0])
    return body.endswith(_LAST_CHUNK) if b"chunked" in head else True


def run(deliveries: Deliveries, port: int, connections: int, seconds: float) -> dict[str, Any]:
    """Requests in ``seconds``: how many each second, their time in milliseconds, and the statuses."""
    polled = select.epoll()
    crowd = {each.socket.fileno(): each for each in (Connection(port) for _ in range(connections))}
    statuses: Counter[int] = Counter()
    times: list[float] = []
    began = now = time.perf_counter()
    for fd, each in crowd.items():
        each.sent_at = now
        each.send(deliveries.next())
        polled.register(fd, select.EPOLLIN | (select.EPOLLOUT if each.unsent else 0))
    while now < began + seconds:
        for fd, ready in polled.poll(1.0):
            each = crowd[fd]
            if ready & select.EPOLLOUT and each.unsent:
                each.send_rest()
                if not each.unsent:
                    polled.modify(fd, select.EPOLLIN)
            if not ready & ~select.EPOLLOUT:
                continue
            status = each.receive()
            if status is not None:
                now = time.perf_counter()
                statuses[status] += 1
                times.append(now - each.sent_at)
                each.sent_at = now
                each.send(deliveries.next())
                if each.unsent:
                    polled.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        now = time.perf_counter()
    for each in crowd.values():
        each.socket.close()
    times.sort()
    return {
        "per_second": len(times) / (now - began),
        "p50_ms": 1000 * times[len(times) // 2] if times else None,
        "p99_ms": 1000 * times[len(times) * 99 // 100] if times else None,
        "statuses": statuses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--size", type=int, required=True, help="bytes of a body")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before what is measured")
    given = parser.parse_args()
    deliveries = Deliveries(given.path, given.secret.encode(), given.size)
    if given.warmup:
        run(deliveries, given.port, given.connections, given.warmup)
    print(json.dumps(run(deliveries, given.port, given.connections, given.seconds)))


if __name__ == "__main__":
    main()
