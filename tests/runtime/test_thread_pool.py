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


RESOLVING = """
import os, resource
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from stackit.runtime.thread_pool import keep_threads

def ask():
    made = []
    try:
        while True:
            made.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    asked = HostnameEndpoint(reactor, "nowhere.invalid", 80, timeout=50).connect(Factory())
    asked.addErrback(lambda failure: print(failure.type.__name__)).addBoth(lambda _: reactor.stop())

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
keep_threads(reactor)
reactor.callWhenRunning(ask)
reactor.run()
"""


def test_a_request_of_the_pool_needs_no_new_thread() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("answered\n", "", 0)


def test_a_name_that_is_resolved_needs_no_new_module() -> None:
    command = [sys.executable, "-c", RESOLVING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("DNSLookupError\n", "", 0)
