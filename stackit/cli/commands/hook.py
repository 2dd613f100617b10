"""``stackit hook``: webhooks at GitHub, compared, made, mended, and given new secrets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from stackit.api.commands import Command, Shell
from stackit.api.errors import StackitError

_ACTIONS = {
    "check": "look at it now",
    "create": "make it",
    "update": "make it what it should be",
    "ping": "have GitHub send something, and wait for it",
    "rotate": "give it a new secret",
    "forget": "watch it no more",
}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", choices=_ACTIONS, help=_meanings())
    parser.add_argument("hook", metavar="HOOK", nargs="?", help="app:NAME, ORGANIZATION or OWNER/NAME")
    parser.add_argument("--id", metavar="N", help="update: the webhook with this id at GitHub")
    parser.add_argument("--keep-old", metavar="TIME", help="rotate: how long the old secret stays valid, 30s")


def _meanings() -> str:
    return "; ".join(f"{action}: {meaning}" for action, meaning in _ACTIONS.items())


def _check(options: Namespace) -> None:
    if options.hook is None and options.action != "check":
        raise ValueError(f"hook {options.action} takes a HOOK: app:NAME, ORGANIZATION or OWNER/NAME")
    if options.id is not None and options.action != "update":
        raise ValueError("--id is for hook update")
    if options.keep_old is not None and options.action != "rotate":
        raise ValueError("--keep-old is for hook rotate")


async def _run(shell: Shell) -> None:
    options = shell.options
    query = {} if options.hook is None else {"hook": options.hook}
    if options.id is not None:
        query["id"] = options.id
    if options.keep_old is not None:
        query["keep_old"] = options.keep_old
    answer = await shell.admin.ask("POST", f"/hooks/{options.action}", query)
    if options.action == "check":
        _show_all(shell, answer)
    else:
        shell.printer.show(answer, "\n".join([_done(answer), *_lines(answer)]))


def _show_all(shell: Shell, answer: Any) -> None:
    hooks = answer["hooks"]
    rows = [[each["hook"], each["id"] or "", each["url"] or "", _state(each)] for each in hooks]
    notes = [line for each in hooks for line in _lines(each)]
    if answer["public_url"] is None:
        notes.append("public_url is not set, so that no URL was compared")
    shell.printer.table(
        answer,
        ["HOOK", "ID", "URL", "STATE"],
        rows,
        empty="stackit watches no webhook: it has no [[apps]], no secret_files in [[owners]] or [[repos]]",
        note="\n".join(["", *notes]) if notes else "",
    )
    wrong = sum(bool(each["faults"] or each["problem"]) for each in hooks)
    if wrong:
        raise StackitError(f"{wrong} of {len(hooks)} webhooks need somebody")


def _state(hook: Any) -> str:
    if hook["problem"]:
        return "unknown"
    return ", ".join(each["fault"] for each in hook["faults"]) or "right"


def _lines(hook: Any) -> list[str]:
    lines = [each["text"] for each in hook.get("faults", ())]
    if hook.get("problem"):
        lines.append(f"{hook['hook']}: {hook['problem']}")
    return lines


def _done(answer: Any) -> str:
    hook, done = answer["hook"], answer["done"]
    file = answer.get("secret_file")
    texts = {
        "created": f"{hook}: made, with the id {answer.get('id')}; its secret is in {file}, and valid already",
        "updated": f"{hook}: is as it should be" if not answer.get("faults") else f"{hook}: was changed",
        "pinged": f"{hook}: a delivery came, and verified",
        "forgotten": f"{hook}: is watched no more; at GitHub nothing was changed",
        "changed": f"{hook}: GitHub signs with the new secret, which is in {file}",
        "waiting": f"{hook}: GitHub was told to sign with the new secret, which is in {file}; no delivery has shown it "
        "yet, so both are valid until one does",
    }
    lines = [texts[done]]
    others = answer.get("also_valid") or []
    if others:
        lines.append(
            f"also valid, for as long as the configuration names them: {', '.join(others)}; take out the old one"
        )
    return "\n".join(lines)


COMMAND = Command(
    name="hook",
    help="Compare, make and mend webhooks at GitHub, and change their secrets.",
    run=_run,
    arguments=_arguments,
    check=_check,
    example="stackit hook check\nstackit hook create octo/widget\nstackit hook rotate app:main",
)
