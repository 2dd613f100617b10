"""Find the line that names the cause of a failure among the messages of git, ssh and the remote."""

from __future__ import annotations

import re

LONGEST = 300

_PROGRESS = re.compile(
    r"remote: (?:Enumerating|Counting|Compressing|Finding|Getting|Reusing|Total|warning: )"
    r"|(?:Receiving|Unpacking|Writing|Resolving|Updating|Checking) |From |Cloner into | [ *+=!t-] "
    r"|Warning: Permanently|warning: |hint: "
)
# Messages that git writes whatever the cause is.
_GENERIC = re.compile(
    r"(?:fatal: )?Could not read from remote repository|Please make sure you have the correct access rights"
    r"|and the repository exists|\(or you mis-spelled|fatal: (?:the remote end hung up|early EOF|index-pack failed)"
    r"|error: [Cc]ould not fetch|fatal: [Cc]ould not fetch|fatal: protocol error: bad pack header|fatal: unpack-objects"
    r"|fatal: fetch-pack: |fatal: expected flush|.*git.upload-pack: |remote: aborting due to possible repository corr"
    r"|fatal: unable to fetch|error: error in sideband demultiplexer|fetch-pack: unexpected disconnect"
)
_ANY_MARK = r"(?:remote: )?(?:fatal|error|FATAL|ERROR): "
# Messages of ssh and of servers, which name the cause where git's last line does not.
_CAUSE = re.compile(
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|No route to host|Network is unreachable"
    r"|ssh: |Permission denied|DENIED by|kex_exchange_identification|Connection (?:closed|reset|refused|timed out)"
)
_FROM_REMOTE = re.compile(r"remote: +(\S.*)")


def find_cause(said: str) -> str | None:
    """Return the line of ``said`` that names the cause, cut to ``LONGEST`` characters, or None if there is no line."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not _PROGRESS.match(line)]
    specific = [line for line in lines if not _GENERIC.match(line)]
    gits = [line for line in specific if line.startswith(("fatal: ", "error: "))]
    remotes = [line for line in specific if line.startswith("remote: ")]
    # git's last line is the outcome; of all others the first line names the cause.
    chosen = (
        next(filter(_CAUSE.search, specific), None)
        or next(iter(gits[-1:]), None)
        or next((line for line in remotes if re.match(_ANY_MARK, line)), None)
        or next(iter([*remotes, *specific]), None)
        or next(iter(lines[-1:]), None)
    )
    return None if chosen is None else _shown(chosen)


def _shown(line: str) -> str:
    remote = _FROM_REMOTE.match(line)
    words = remote[1] if remote else line
    words = " ".join(re.sub(r"^(?:fatal|error): ", "", words).split())[:LONGEST]
    words = "".join(each if each.isprintable() else "?" for each in words)
    return f"the remote says: {words}" if remote else words
