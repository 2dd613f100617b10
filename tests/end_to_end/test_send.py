"""``stackit send``: deliveries as GitHub's, signed and sent by the shell to a real stackit."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import shell

from stackit.cli.run import run
from stackit.testing import payload_for
from stackit.testing.process import SECRET


class Ran:
    """What a command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


class Sender:
    """A person at a shell, in a directory with a file that holds the secret of the shared stackit."""

    def __init__(self, receiver: Any, directory: Path) -> None:
        self.url = receiver.server.webhook_url
        self.server = receiver.server
        self.notebook = receiver.notebook
        self.directory = directory
        (directory / "secret").write_text(f"{SECRET}\n")

    async def send(self, *arguments: str, **environ: str) -> Ran:
        """``stackit send …`` with no more than these arguments."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        out, err = io.StringIO(), io.StringIO()
        given = ["send", *arguments]
        status = await run(reactor, given, environ=environ, cwd=self.directory, out=out, err=err)
        return Ran(status, out.getvalue(), err.getvalue())

    async def __call__(self, *arguments: str) -> Ran:
        """``stackit send …`` to the shared stackit, with its secret."""
        return await self.send(*arguments, "--url", self.url, "--secret-file", "secret")

    def seen(self, guid: str) -> dict[str, Any]:
        """What the plugin of the shared stackit noted of a delivery."""
        notes: list[dict[str, Any]] = [each for each in self.notebook.read() if each["guid"] == guid]
        (note,) = notes
        return note


@pytest.fixture
def sender(receiver: Any, tmp_path: Path) -> Sender:
    return Sender(receiver, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["push"], ("push", None, "octo/widget")),
        (["push", "--repo", "octo/gadget"], ("push", None, "octo/gadget")),
        (["issues"], ("issues", "opened", "octo/widget")),
        (["issues", "--action", "closed"], ("issues", "closed", "octo/widget")),
        (["repository_dispatch", "--action", "deploy: prod"], ("repository_dispatch", "deploy: prod", "octo/widget")),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_delivery_is_made_up_signed_and_handled(
    sender: Sender, arguments: list[str], expected: tuple[str, ...]
) -> None:
    sent = await sender(*arguments, "--json")
    assert (sent.status, sent.err) == (0, "")
    answer = json.loads(sent.out)
    assert (answer["status"], answer["duplicate"]) == (202, False)
    receipt = await sender.server.wait_for(answer["delivery"])
    assert receipt["id"] == answer["id"]
    note = sender.seen(answer["delivery"])
    assert (note["event"], note["action"], note["repo"]) == expected


@pytest_twisted.ensureDeferred
async def test_one_that_is_sent_again_is_no_replay(sender: Sender) -> None:
    before = sender.server.log.count("came back under a new delivery id")
    for _ in range(3):
        assert (await sender("push")).status == 0
    assert sender.server.log.count("came back under a new delivery id") == before


@pytest_twisted.ensureDeferred
async def test_a_payload_of_a_file_goes_as_it_is(sender: Sender) -> None:
    (sender.directory / "payload.json").write_text(json.dumps(payload_for("issues", "closed", "octo/mine"), indent=3))
    answer = json.loads((await sender("issues", "payload.json", "--json")).out)
    await sender.server.wait_for(answer["delivery"])
    assert sender.seen(answer["delivery"])["repo"] == "octo/mine"
    found = await sender.server.admin("GET", f"{{prefix}}/deliveries/{answer['id']}", payload="1")
    assert found.json()["payload"] == payload_for("issues", "closed", "octo/mine")


@pytest_twisted.ensureDeferred
async def test_the_answer_names_the_receipt(sender: Sender) -> None:
    sent = await sender("push")
    assert sent.out.startswith("202: taken; see stackit delivery ")
    number = sent.out.split()[-1]
    assert (await sender.server.admin("GET", f"{{prefix}}/deliveries/{number}")).status == 200


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["pussh"], 2, "GitHub documents no event 'pussh': give a payload of your own for it"),
        (["push", "--repo", "widget"], 2, "not a repository name: 'widget'"),
        (["push", "gone.json"], 1, "stackit: gone.json cannot be read: No such file or directory"),
        (["push", "secret", "--action", "x"], 1, "stackit: secret is no JSON object, so it can have no --action"),
        (
            ["push", "secret", "--repo", "a/b"],
            2,
            "--repo is for a payload that is made up, and not for one from a FILE",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_mistake_is_one_line_that_names_it(
    sender: Sender, arguments: list[str], status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found: object
    try:
        ran = await sender(*arguments)
        found, err = ran.status, ran.err
    except SystemExit as leaving:  # argparse writes to the stderr of the process
        found, err = leaving.code, capsys.readouterr().err
    assert (found, line in err.splitlines()[-1]) == (status, True), err


@pytest_twisted.ensureDeferred
async def test_an_action_that_github_does_not_have_is_sent_and_doubted(sender: Sender) -> None:
    sent = await sender("label", "--action", "createt")
    assert sent.status == 0, sent.err
    assert 'no such action of label; did you mean "label.created"?' in sent.out


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_is_not_taken_says_why(sender: Sender) -> None:
    (sender.directory / "wrong").write_text("another secret")
    (sender.directory / "empty").write_text("\n")
    wrong = await sender.send("push", "--url", sender.url, "--secret-file", "wrong")
    assert wrong.status == 1
    assert "answered 401: the secret is not that of the stackit there" in wrong.err
    assert "another secret" not in wrong.err
    elsewhere = await sender.send("push", "--url", f"{sender.server.url}/x", "--secret-file", "secret")
    assert "answered 404: no webhook is there" in elsewhere.err
    nobody = await sender.send("push", "--url", "http://127.0.0.1:9/", "--secret-file", "secret")
    assert "no stackit answers at http://127.0.0.1:9/ (unreachable); start it with" in nobody.err
    nowhere = await sender.send("push", "--url", "nonsense", "--secret-file", "secret")
    assert nowhere.err.startswith("stackit: --url: ")
    unsigned = await sender.send("push", "--url", sender.url)
    assert "no secret to sign with: give --secret-file, or set STACKIT_GITHUB_WEBHOOK_SECRET" in unsigned.err
    (sender.directory / "next").touch()
    (sender.directory / "twistd.conf").write_text('[webhook]\nsecret_files = ["next"]\n')
    waiting = await sender.send("push", "--url", sender.url)
    assert f"no secret to sign with ({sender.directory}/next: empty): give --secret-file" in waiting.err
    empty = await sender.send("push", "--url", sender.url, "--secret-file", "empty")
    assert empty.err == f"stackit: secret file {sender.directory}/empty is empty\n"
    assert {each.status for each in (elsewhere, nobody, nowhere, unsigned, waiting, empty)} == {1}


@pytest_twisted.ensureDeferred
async def test_address_and_secret_are_found_in_the_configuration_and_the_environment(sender: Sender) -> None:
    listen = f"tcp:{sender.server.url.rpartition(':')[2]}:interface=127.0.0.1"
    (sender.directory / "next").write_text("")
    (sender.directory / "twistd.conf").write_text(
        f'listen = "{listen}"\n[webhook]\nsecret_files = ["next", "secret"]\n[admin]\ntoken_files = ["unreadable"]\n'
    )
    assert (await sender.send("push")).status == 0
    assert "answered 401" in (await sender.send("push", STACKIT_GITHUB_WEBHOOK_SECRET="other")).err
    (sender.directory / "twistd.conf").unlink()
    assert (await sender.send("push", STACKIT_LISTEN=listen, STACKIT_GITHUB_WEBHOOK_SECRET=SECRET)).status == 0
    for text, line in (
        ("listen = 5\n", "twistd.conf: listen: expected text in quotes, got a whole number"),
        ('listen = "tcp:nonsense"\n', "twistd.conf: listen: expected a Twisted endpoint such as"),
        ("api_prefixes = [5]\n", "twistd.conf: api_prefixes: expected text in quotes, got a whole number (item 1)"),
        ("webhook = 5\n", "twistd.conf: webhook: expected a table"),
        ("[webhook]\nsecret_files = [5]\n", "twistd.conf: webhook: expected text in quotes, got a whole number"),
        ('[webhook]\nsecret_files = ["~/x"]\n', "twistd.conf: webhook.secret_files: ~ has no meaning here"),
    ):
        (sender.directory / "twistd.conf").write_text(text)
        wrong = await sender.send("push")
        assert (wrong.status, line in wrong.err, wrong.err.count("\n")) == (2, True, 1), wrong.err
    (sender.directory / "twistd.conf").unlink()
    unix = await sender.send("push", STACKIT_LISTEN="unix:/run/x", STACKIT_GITHUB_WEBHOOK_SECRET=SECRET)
    assert (unix.status, "give --url" in unix.err) == (2, True)


@pytest_twisted.ensureDeferred
async def test_as_a_program_it_reads_standard_input(sender: Sender) -> None:
    send = f'echo \'{{"zen": "x"}}\' | "$0" -P -m stackit send ping - --url {sender.url} --secret-file "$1"'
    sent = await shell("/bin/sh", "-c", send, sys.executable, str(sender.directory / "secret"))
    assert (sent.status, sent.stderr) == (0, b"")
    assert sent.stdout.startswith(b"204: verified, but no plugin handles ping")


@pytest_twisted.ensureDeferred
async def test_the_first_check_of_getting_started_is_taken(sender: Sender) -> None:
    page = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text("utf-8")
    (check,) = re.findall(r"^```sh\n(echo .*?)^```$", page, re.MULTILINE | re.DOTALL)
    check = check.replace("/opt/stackit/bin/stackit", f"{sys.executable} -P -m stackit")
    check = check.replace("/etc/stackit/github-webhook", f"{sender.directory}/secret").strip()
    sent = await shell("/bin/sh", "-c", f"{check} --url {sender.url}")
    assert sent.stdout.startswith(b"202: taken; see stackit delivery "), sent.stderr
