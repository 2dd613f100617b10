"""``stackit send``: sign a delivery as GitHub would, and send it to a running stackit."""

from __future__ import annotations

import json
import secrets
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError
from stackit.api.events import Repo
from stackit.cli.receiver import Receiver
from stackit.http.client import Client, RemoteError, Response, Timeouts

# The test kit is imported where it is used: stackit itself, which knows of this command, has no use for it.

_REPO = "octo/widget"


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("event", metavar="EVENT", help="an event of GitHub, such as push or issues")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the payload, - for standard input (default: made up)")
    parser.add_argument("--action", help="its action, such as opened (default: the usual one)")
    parser.add_argument("--repo", metavar="OWNER/NAME", type=_repo, help=f"its repository ({_REPO})")
    parser.add_argument("--url", help="where it is sent to (default: the webhook, as configured)")
    parser.add_argument("--secret-file", metavar="FILE", help="the secret that signs it (default: as configured)")


def _check(options: Namespace) -> None:
    from stackit.testing import payload_for  # noqa: PLC0415 - see above

    if options.file is None:
        payload_for(options.event, options.action)
    elif options.repo is not None:
        raise ValueError("--repo is for a payload that is made up, and not for one from a FILE")


async def _run(shell: Shell) -> None:
    from stackit.testing import delivery  # noqa: PLC0415 - see above

    options = shell.options
    receiver = Receiver(options.config, shell.environ, shell.cwd)
    url = options.url or receiver.webhook_url()
    body = _payload(options, shell.cwd)
    signed = delivery(options.event, body, secret=receiver.secret(options.secret_file), action=options.action)
    client = Client(shell.reactor, timeouts=Timeouts(answer=options.timeout))
    try:
        response = await client.post(url, signed.body, headers=signed.headers)
    except RemoteError as problem:
        raise StackitError(
            f"no stackit answers at {url} ({problem}); start it with: twistd -n stackit (or say where with --url)"
        ) from None
    except ValueError as problem:
        raise StackitError(f"--url: {problem}") from None
    finally:
        await client.close()
    answer = {"status": response.status, "delivery": signed.guid, **_decoded(response)}
    shell.printer.show(answer, _said(options, response.status, answer, url))


def _payload(options: Namespace, cwd: Path) -> bytes | dict[str, Any]:
    from stackit.testing import payload_for  # noqa: PLC0415 - see above

    if options.file is None:
        made = payload_for(options.event, options.action, options.repo or _REPO)
        # White space that changes with each delivery: stackit warns of a body that it has seen before.
        return json.dumps(made).encode() + bytes(secrets.choice(b" \t") for _ in range(64))
    try:
        text = Path("/dev/stdin").read_bytes() if options.file == "-" else (cwd / options.file).read_bytes()
    except OSError as problem:
        raise StackitError(f"{options.file} cannot be read: {problem.strerror}") from None
    if options.action is None:
        return text
    try:
        return {**json.loads(text)}
    except (TypeError, ValueError):
        raise StackitError(f"{options.file} is no JSON object, so it can have no --action") from None


def _decoded(response: Response) -> dict[str, Any]:
    try:
        found = json.loads(response.body)
    except ValueError:
        return {}
    known = ("id", "duplicate", "error")
    return {key: found[key] for key in known if key in found} if isinstance(found, dict) else {}


def _said(options: Namespace, status: int, answer: dict[str, Any], url: str) -> str:
    """Return the line for a person. Raises StackitError for a delivery that was not taken."""
    event = f"{options.event}.{options.action}" if options.action else options.event
    if status == 202 and "id" in answer:
        again = ", a duplicate: it is handled already" if answer.get("duplicate") else ""
        return f"202: taken{again}; see stackit delivery {answer['id']}{_doubt(options)}"
    if status == 204:
        return f"204: verified, but no plugin handles {event}{_doubt(options)}"
    reasons = {
        401: "the secret is not that of the stackit there, or the delivery was changed on its way",
        404: "no webhook is there: the path is another, stackit has no secret, or its node has no role receive",
    }
    reason = reasons.get(status) or answer.get("error") or "this is no answer of stackit"
    raise StackitError(f"{url} answered {status}: {reason}")


def _doubt(options: Namespace) -> str:
    """Return a remark on an action that GitHub is not known to have; "" for all others."""
    from stackit.testing.actions import doubt  # noqa: PLC0415 - see above

    reason = doubt(options.event, options.action) if options.action else None
    return f" ({reason})" if reason else ""


def _repo(text: str) -> Repo:
    try:
        return Repo.parse(text)
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None


COMMAND = Command(
    name="send",
    help="Sign a delivery as GitHub would, and send it to a running stackit.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit send push\nstackit send issues --action opened --repo octo/gadget\n"
    "stackit send push --secret-file secret payload.json",
)
