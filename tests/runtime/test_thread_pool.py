"""The reactor's pool of threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import threading
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from stackit.runtime.thread_pool import keep_threads

def start(thread):
    raise RuntimeError("can't start new thread")

def ask():
    threading.Thread.start = start
    deferToThread(str, "answered").addBoth(print).addBoth(lambda _: reactor.stop())

keep_threads(reactor)
reactor.callWhenRunning(ask)
reactor.run()
"""


def test_a_request_of_the_pool_needs_no_new_thread() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("answered\n", "", 0)
