"""The secrets of a webhook: from the environment and from files, and which of them a body verifies under."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stackit.github import GitHub
from stackit.web.webhook_secrets import Secrets

GITHUB = GitHub()
BODY = b'{"zen": "caf\xc3\xa9 \xf0\x9f\x8e\x89"}'


def signed(secret: bytes, body: bytes = BODY) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).digest()


def accepts(secrets: Secrets, digits: bytes, body: bytes = BODY) -> str | None:
    verifier = secrets.begin()
    for at in range(0, len(body), 3):
        verifier.update(body[at : at + 3])
    found = secrets.still_valid(verifier.matches(digits))
    return found[0].label if found else None


def scopes(secrets: Secrets, digits: bytes, body: bytes = BODY) -> list[str]:
    """The scopes of the secrets under which a body verifies."""
    verifier = secrets.begin()
    verifier.update(body)
    return [scope for secret in secrets.still_valid(verifier.matches(digits)) for scope in secret.scopes]


@pytest.fixture
def notices() -> list[str]:
    return []


def test_no_part_of_a_signature_is_enough() -> None:
    secrets = Secrets(GITHUB, ["s"], [], print)
    right = signed(b"s")
    assert accepts(secrets, right)
    for digits in (b"", right[:1], right[:31], right + b"0", b"\xff" * 32):
        assert not accepts(secrets, digits)


def test_every_one_of_several_secrets_is_valid(tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "one").write_text("  first\n")
    (tmp_path / "two").write_bytes(b"\xffsecond\r\n")
    secrets = Secrets(GITHUB, [" fixed "], [tmp_path / "one", tmp_path / "two"], notices.append)
    assert all(accepts(secrets, signed(each)) for each in (b"fixed", b"first", b"\xffsecond"))
    assert not accepts(secrets, signed(b""))
    assert notices == []


def test_it_is_known_which_secrets_are_valid_now(tmp_path: Path, notices: list[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("first")
    two.write_text("")
    secrets = Secrets(GITHUB, ["fixed"], [one, two], notices.append)
    assert secrets.known() == {"STACKIT_GITHUB_WEBHOOK_SECRET": True, str(one): True, str(two): False}
    two.write_text("second")
    one.write_text("")
    assert secrets.known() == {"STACKIT_GITHUB_WEBHOOK_SECRET": True, str(one): False, str(two): True}


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_secret_is_none(tmp_path: Path, text: str, notices: list[str]) -> None:
    (tmp_path / "secret").write_text(text)
    secrets = Secrets(GITHUB, [text], [tmp_path / "secret"], notices.append)
    assert not secrets
    assert not secrets.begin()
    assert not accepts(secrets, signed(text.encode()))
    assert not accepts(secrets, signed(b""))


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    assert accepts(secrets, signed(b"old"))
    (tmp_path / "next").write_text("new")
    (tmp_path / "next").replace(path)
    assert accepts(secrets, signed(b"new"))
    assert not accepts(secrets, signed(b"old"))
    before = path.stat()
    path.write_text("NEW")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert accepts(secrets, signed(b"NEW"))


def test_emptying_a_file_takes_its_secret_back(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    assert secrets
    assert secrets.begin()
    path.write_text("")
    assert not secrets
    assert not secrets.begin()


def test_a_file_that_vanishes_keeps_its_secret_and_is_named_once(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "secret"
    path.write_text("old-secret")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    assert secrets
    path.unlink()
    assert all(accepts(secrets, signed(b"old-secret")) for _ in range(3))
    (notice,) = notices
    assert str(path) in notice
    assert "old-secret" not in notice
    path.write_text("new")
    assert accepts(secrets, signed(b"new"))
    path.unlink()
    assert secrets
    assert ["read again" in notice for notice in notices] == [False, True, False]
    assert "new" not in " ".join(notices)


@pytest.mark.parametrize("harm", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_file_that_becomes_anything_else_is_named_and_keeps_its_secret(
    tmp_path: Path, harm: Callable[[Path], None], notices: list[str]
) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    assert secrets
    path.unlink()
    harm(path)
    assert all(accepts(secrets, signed(b"old")) for _ in range(3))
    assert notices == [
        f"webhook secret file {path} cannot be read: it is not a regular file; its last secret stays valid"
    ]


def test_what_was_read_again_is_told_and_what_it_came_to(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    for text in ("newer-and-long-enough", ""):
        path.write_text(text)
        for _ in range(3):
            secrets.begin()
    assert notices == [
        f"webhook secret file {path} was read again: its secret is valid from now on",
        f"webhook secret file {path} was read again: it is empty, so its secret is taken back",
    ]


def test_a_file_too_large_for_a_secret_gives_none(tmp_path: Path, notices: list[str]) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 100_000)
    assert not Secrets(GITHUB, [], [path], notices.append)
    assert "64 KiB" in notices[0]


LONG = b"f1a9c0de" * 4

ODD = {
    "bom": (b"\xef\xbb\xbf" + LONG + b"\r\n", LONG, "begins with a byte order mark, which is left out"),
    "blank before bom": (b" \xef\xbb\xbf" + LONG, LONG, "begins with a byte order mark, which is left out"),
    "blanks": (LONG + b" " + LONG, LONG + b" " + LONG, "has blanks inside"),
    "tab": (LONG + b"\t" + LONG, LONG + b"\t" + LONG, "has blanks inside"),
    "lines": (LONG + b"\n" + LONG + b"\n", LONG + b"\n" + LONG, "has several lines, which are one secret"),
    "control": (LONG + b"\x1b", LONG + b"\x1b", "has control characters inside"),
    "utf-16": (
        f"\ufeff{LONG.decode()}".encode("utf-16-le"),
        f"\ufeff{LONG.decode()}".encode("utf-16-le"),
        "looks like UTF-16, where a forge has UTF-8",
    ),
    "quotes": (b'"' + LONG + b'"\n', b'"' + LONG + b'"', "stands in quotes, which are part of it"),
    "short": (b"x" * 15, b"x" * 15, "is shorter than 16 characters"),
    "short in characters": ("ü".encode() * 15, "ü".encode() * 15, "is shorter than 16 characters"),
    "several": (
        b"\xef\xbb\xbfa b",
        b"a b",
        "begins with a byte order mark, which is left out and has blanks inside and is shorter than 16 characters",
    ),
    "sound": (b"\t" + LONG + b" \n", LONG, None),
    "long enough": (b"x" * 16, b"x" * 16, None),
    "bytes that are no text": (b"\xff" * 16, b"\xff" * 16, None),
}


@pytest.mark.parametrize(("content", "secret", "odd"), ODD.values(), ids=ODD.keys())
def test_what_is_odd_about_a_secret_is_told_without_it(
    tmp_path: Path, notices: list[str], content: bytes, secret: bytes, odd: str | None
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    secrets = Secrets(GITHUB, [], [path], notices.append)
    assert secrets.doubts() == ([] if odd is None else [f"webhook secret {path}: it {odd}"])
    assert accepts(secrets, signed(secret))
    assert not accepts(secrets, signed(b""))
    assert notices == []
    path.write_bytes(content + b"\n\n")  # it is the same, and read again
    assert accepts(secrets, signed(secret))
    assert notices == [
        f"webhook secret file {path} was read again: its secret is valid from now on" + (f"; it {odd}" if odd else "")
    ]


def test_what_is_odd_about_the_secret_of_the_environment_is_told(notices: list[str]) -> None:
    secrets = Secrets(GITHUB, ["\ufeffhush"], [], notices.append)
    assert secrets.doubts() == [
        "webhook secret STACKIT_GITHUB_WEBHOOK_SECRET: it begins with a byte order mark, which is left out "
        "and is shorter than 16 characters"
    ]
    assert accepts(secrets, signed(b"hush"))


@pytest.mark.parametrize("content", ["\ufeff", " \ufeff\r\n", "\ufeff \n"])
def test_a_byte_order_mark_alone_is_no_secret(tmp_path: Path, notices: list[str], content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content, "utf-8")
    secrets = Secrets(GITHUB, [content], [path], notices.append)
    assert not secrets
    assert not accepts(secrets, signed(b""))
    assert secrets.doubts() == [f"webhook secret {path}: it is empty, so there is none"]


def test_it_is_told_by_which_secret_a_body_verified(tmp_path: Path, notices: list[str]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("the old one")
    new.write_text("the new one")
    secrets = Secrets(GITHUB, ["fixed"], [old, new], notices.append)
    verified_by = {secret: accepts(secrets, signed(secret)) for secret in (b"fixed", b"the old one", b"the new one")}
    assert verified_by == {
        b"fixed": "STACKIT_GITHUB_WEBHOOK_SECRET",
        b"the old one": str(old),
        b"the new one": str(new),
    }
    assert accepts(secrets, signed(b"another")) is None
    new.write_text("the old one")  # two files with one secret: the first is told
    assert accepts(secrets, signed(b"the old one")) == str(old)


def test_no_secret_shows_in_a_repr() -> None:
    assert "hush" not in repr(Secrets(GITHUB, ["hush"], [], print))


def test_a_secret_that_is_taken_back_while_a_body_comes_does_not_verify_it(tmp_path: Path, notices: list[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("first")
    two.write_text("second")
    secrets = Secrets(GITHUB, [], [one, two], notices.append)
    verifiers = {each: secrets.begin() for each in (b"first", b"second")}
    one.write_text("")
    secrets.known()  # as the next request does, or a scrape
    reloaded = Secrets(GITHUB, [], [two], notices.append)
    for secret, verifier in verifiers.items():
        verifier.update(BODY)
        matching = verifier.matches(signed(secret))
        assert len(matching) == 1
        assert bool(secrets.still_valid(matching)) is (secret == b"second")
        assert bool(reloaded.still_valid(matching)) is (secret == b"second")


def test_a_secret_has_the_scopes_of_its_file_and_one_in_two_files_those_of_both(
    tmp_path: Path, notices: list[str]
) -> None:
    all_of, octo, acme, both = (tmp_path / name for name in ("all", "octo", "acme", "both"))
    for path in (all_of, octo, acme, both):
        path.write_text(f"the-secret-of-{path.name}")
    scoped = {octo: ["owner:octo"], acme: ["owner:acme"], both: ["owner:octo", "owner:acme"]}
    secrets = Secrets(GITHUB, ["the-one-and-only-fixed-one"], [all_of, both], notices.append, scoped)
    assert (
        scopes(secrets, signed(b"the-one-and-only-fixed-one")) == scopes(secrets, signed(b"the-secret-of-all")) == [""]
    )
    assert scopes(secrets, signed(b"the-secret-of-octo")) == ["owner:octo"]
    assert scopes(secrets, signed(b"the-secret-of-both")) == ["owner:octo", "owner:acme", ""]
    assert secrets.doubts() == []
    octo.write_text("the-secret-of-acme")
    assert scopes(secrets, signed(b"the-secret-of-acme")) == ["owner:octo", "owner:acme"]
    assert secrets.doubts() == [
        f"webhook secrets {octo} and {acme}: they are one secret, which therefore speaks for owner:octo and owner:acme"
    ]
    all_of.write_text("the-secret-of-acme")
    assert "therefore speaks for everything" in secrets.doubts()[0]


def test_a_secret_has_the_scopes_of_now_also_where_a_reload_changed_them_while_a_body_came(
    tmp_path: Path, notices: list[str]
) -> None:
    path = tmp_path / "secret"
    path.write_text("the one secret of all")
    secrets = Secrets(GITHUB, [], [path], notices.append)
    verifier = secrets.begin()
    verifier.update(BODY)
    matching = verifier.matches(signed(b"the one secret of all"))
    reloaded = Secrets(GITHUB, [], [], notices.append, {path: ["owner:octo"]})
    assert [each.scopes for each in reloaded.still_valid(matching)] == [("owner:octo",)]


def test_many_secrets_are_told_of_with_what_they_cost(tmp_path: Path, notices: list[str]) -> None:
    scoped = {tmp_path / str(number): [f"repo:octo/{number}"] for number in range(33)}
    for path in scoped:
        path.write_text(f"a-secret-with-the-number-{path.name}")
    (doubt,) = Secrets(GITHUB, [], [], notices.append, scoped).doubts()
    assert doubt.startswith("there are 33 webhook secrets, and every body is hashed with each of them")
