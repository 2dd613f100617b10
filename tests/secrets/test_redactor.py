"""A text from outside that has a secret in it, in one form or another, and what of it is shown."""

from __future__ import annotations

import json
import os
import random
import re
import string
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stackit import SecretFile
from stackit.secrets.redactor import Redactor, proxy_passwords
from stackit.text.redaction import LONGEST, redacted

TOKEN = "s3cr3t-of-the-Repository"
ODD = 'a"b\\c d/e+f&g<h>é%21'


def every_byte(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


LONG_TOKEN = f"ghs_1234567_eyJ{95 * 'h'}.eyJ{200 * 'p'}-_{'p' * 20}.{'s' * 60}-{'t' * 60}_x"
"""A token of an installation in GitHub's newer form."""
PRIVATE_KEY = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *25 * ["MIIE+/ab" * 8], "-----END RSA PRIVATE KEY-----"])

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent-encoded": lambda text: quote(text, safe=""),
    "as in a form": quote_plus,
    "percent-encoded byte by byte": every_byte,
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in capitals": lambda text: text.encode().hex().upper(),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in Unicode's numbers": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "HTML": escape,
    "HTML's numbers": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode(),
    "base64, one byte on": lambda text: b64encode(b"x" + text.encode()).decode(),
    "base64, two bytes on": lambda text: b64encode(b":x" + text.encode() + b"y").decode(),
    "base64 of a header": lambda text: b64encode(f"x-access-token:{text}".encode()).decode(),
    "base64, percent-encoded": lambda text: quote(b64encode(f"me:{text}".encode()).decode(), safe=""),
}


@pytest.mark.parametrize("secret", [TOKEN, ODD, TOKEN * 9])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_shows_in_no_form_that_it_may_come_back_in(form: str, secret: str) -> None:
    shown = FORMS[form](secret)
    text = f"remote: you said {shown}, and so (100% sure) it was denied: {shown}"
    freed = Redactor([secret])(text)
    assert secret not in freed
    assert shown not in freed
    assert freed == "remote: you said ***, and so (100% sure) it was denied: ***"


@pytest.mark.parametrize("seed", range(20))
def test_of_a_secret_in_base64_nothing_is_left_whatever_stands_around_it(seed: int) -> None:
    dice = random.Random(seed)
    secret = "".join(dice.choices(string.printable.strip(), k=dice.randrange(8, 60)))
    around = ["".join(dice.choices(string.ascii_letters, k=dice.randrange(9))) for _ in range(2)]
    shown = b64encode(secret.join(around).encode()).decode()
    assert Redactor([secret])(f"said ({shown})") == "said (***)"


def in_base64_by_search(text: str, secret: str) -> str:
    """``text`` without the runs of base64 that have a secret inside, found by a search without regular expressions."""
    alphabet = string.ascii_letters + string.digits + "+/_-"
    for before in range(3):
        encoded = b64encode(bytes(before) + secret.encode()).decode()
        sign = encoded[-(-8 * before // 6) : 8 * (before + len(secret)) // 6]
        at = text.find(sign)
        while at >= 0:
            start, end = at, at + len(sign)
            while start and text[start - 1] in alphabet:
                start -= 1
            while end < len(text) and text[end] in alphabet:
                end += 1
            while end < len(text) and text[end] == "=":
                end += 1
            text = f"{text[:start]}***{text[end:]}"
            at = text.find(sign)
    return text


_PIECES = ["A", "b", "=", "/", " ", "-", "x:", ".", *(b64encode(b"x" * n + TOKEN.encode()).decode() for n in range(3))]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_of_base64_just_the_runs_that_hold_a_secret_are_removed(text: str) -> None:
    assert Redactor([TOKEN])(text) == in_base64_by_search(text, TOKEN)


@pytest.mark.parametrize(
    "character",
    [
        "A",
        "A=",
        "A ",
        "%41",
        "eyJ",
        "-eyJ",
        "-eyJaaaaaaaa.",
        "gho_",
        "token ",
        "a://",
        "-----BEGIN",
        "-----BEGIN A PRIVATE KEY",
        "v1.",
    ],
)
def test_no_text_holds_up_the_reactor_however_long_its_runs_are(character: str) -> None:
    secrets = [f"{TOKEN}-{number:02}" for number in range(50)]
    shown = [b64encode(bytes(n) + each.encode()).decode() for each in secrets for n in range(3)]
    text = " ".join([*shown, character * (110_000 // len(character)), "://", "eyJ", "gh", "token "])
    start = time.process_time()
    for _ in range(10):
        redacted(text)
    freed = Redactor(secrets)(text)
    # A bound against minutes: it is less than a second.
    assert time.process_time() - start < 20
    assert freed.startswith("*** " * len(shown))


_WEB_TOKEN_PIECES = ["eyJ", "-", ".", " ", "é", "aaaaaaaa", "b", "a_a-a0a-a", "\\n", "%3D", "\\u003d", "%"]


@given(st.lists(st.sampled_from(_WEB_TOKEN_PIECES), max_size=16).map("".join))
def test_a_web_token_is_found_wherever_it_begins(text: str) -> None:
    begin = r"(?:\b|(?<=\\n)|(?<=%[0-9A-Fa-f]{2})|(?<=\\u003d))"
    slow = re.compile(begin + r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")
    assert redacted(text) == slow.sub("***", text)


def test_what_holds_no_secret_stays_as_it_is() -> None:
    text = 'error: 50% of "refs/heads/caf\udce9" & \\u0041 %41 are &lt;fine&gt;\n'
    assert Redactor([TOKEN, ODD])(text) == text
    assert Redactor()(text) == text


def test_a_secret_that_is_too_short_to_be_told_from_a_word_is_not_looked_for() -> None:
    assert Redactor(["", "error"])("an error") == "an error"


def test_a_secret_within_another_leaves_nothing_of_it() -> None:
    assert Redactor([TOKEN, f"{TOKEN}-and-more"])(f"said {TOKEN}-and-more, {TOKEN}") == "said ***, ***"


def test_what_looks_like_a_credential_goes_too_and_a_text_is_cut() -> None:
    assert Redactor([TOKEN])("see https://me:pw@host/x") == "see https://***@host/x"
    assert len(Redactor([TOKEN])("word " * LONGEST)) == LONGEST + 1
    assert TOKEN[:9] not in Redactor([TOKEN])("x" * (LONGEST - 9) + TOKEN)


def test_a_file_is_read_again_when_it_changes_and_what_it_held_is_remembered(tmp_path: Path) -> None:
    file, clock = tmp_path / "token", Clock()
    redact = Redactor(files=[file], seconds=clock.seconds)
    assert redact("said first-secret") == "said first-secret"
    file.write_text("\ufefffirst-secret\n")
    clock.advance(2)
    assert redact("said first-secret") == "said ***"
    file.write_text("the-second-secret\n")
    clock.advance(2)
    assert redact("said the-second-secret, first-secret") == "said ***, ***"
    file.unlink()
    clock.advance(2)
    assert redact("said the-second-secret") == "said ***"


@pytest.mark.parametrize("secret", [b"\xa9\xa9-secret", b"secret-\xc3", b"secret-\xf0\x9f", b"\xff\xfe-secret-\xff"])
@pytest.mark.parametrize("around", [("é", "é"), ("\U0001f600", "\U0001f600"), ("\udce9", "\udce9"), ("a", "b")])
def test_a_secret_that_is_not_utf8_is_removed_from_between_any_characters(
    tmp_path: Path, secret: bytes, around: tuple[str, str]
) -> None:
    (tmp_path / "token").write_bytes(secret)
    redact = Redactor(files=[tmp_path / "token"])
    quoted = "".join(f"%{byte:02x}" for byte in secret)
    assert redact(f"é said {around[0]}{quoted}{around[1]} 😀") == f"é said {around[0]}***{around[1]} 😀"


def test_a_secret_may_begin_and_end_within_a_character(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes("é".encode()[1:] + b"-secret-" + "😀".encode()[:2])
    redact = Redactor(files=[tmp_path / "token"])
    assert redact("%41 é-secret-😀é") == "%41 ***é"
    assert redact("%41 ééé-secret-😀é-secret-😀") == "%41 éé******"


def test_a_file_that_became_a_pipe_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert Redactor(files=[tmp_path / "pipe", tmp_path / "gone"])("said") == "said"


@pytest.mark.parametrize(
    "credential",
    [
        "ghs_" + "A1b2" * 9,
        "ghs_eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2ln-bmF0_dXJl",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJl",
        LONG_TOKEN,
        "github_pat_11ABCDEFG0123456789_abcdef",
        "github_pat_" + 22 * "A" + "_" + 59 * "b",
        "ghp_" + 36 * "a",
        "gho_" + 36 * "b",
        "ghu_" + 36 * "c",
        "ghr_" + 76 * "d",
        "v1." + 40 * "e",
        PRIVATE_KEY,
        PRIVATE_KEY.replace("RSA ", ""),
        PRIVATE_KEY.strip().replace("\n", " "),
    ],
)
@pytest.mark.parametrize("form", ["plain", "JSON", "percent-encoded", "repr"])
def test_the_kinds_of_credential_that_github_gives_are_known_by_their_looks(credential: str, form: str) -> None:
    """Also behind an escaped character, which ends in a letter or a digit, so that no word seems to begin there."""
    text = f"denied:\n{credential}\nis no more"
    shown = repr(text)[1:-1] if form == "repr" else FORMS[form](text)
    around = [repr(each)[1:-1] if form == "repr" else FORMS[form](each) for each in ("denied:\n", "\nis no more")]
    assert redacted(shown) == "***".join(around)


def test_a_private_key_without_its_end_takes_the_rest_along_and_a_certificate_stays() -> None:
    assert redacted(f"a {PRIVATE_KEY[:200]}") == "a ***"
    assert redacted(f"{PRIVATE_KEY} and {PRIVATE_KEY}") == "*** and ***"
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    assert redacted(certificate) == certificate


@pytest.mark.parametrize("text", ["eyJust a word.and another", "ghs_short", "ghost_of_a_chance_in_the_machine"])
def test_a_word_is_not_taken_for_a_token(text: str) -> None:
    assert redacted(text) == text


def test_the_passwords_of_proxies_are_secrets_in_use() -> None:
    environ = {
        "https_proxy": "http://me:p%40ss-word@proxy.example.org:3128/",
        "HTTP_PROXY": "me:another@proxy:3128",
        "no_proxy": "me:none@host",
        "http_proxy": "http://proxy:3128",
        "ALL_PROXY": "",
    }
    assert list(proxy_passwords(environ)) == ["p@ss-word", "another"]


def test_a_new_secret_is_hidden_from_the_moment_that_a_plugin_reads_it(
    tmp_path: Path,
) -> None:
    clock, file = Clock(), tmp_path / "token"
    file.write_text("the-first-token")
    redact = Redactor(seconds=clock.seconds)
    redact.add_files([file])
    secret = SecretFile(file, partial(redact.refresh, file))
    assert redact(f"with {secret.read()}") == "with ***"
    file.write_text("the-second-token")
    assert redact(f"{secret.read()} after the-first-token") == "*** after ***"
