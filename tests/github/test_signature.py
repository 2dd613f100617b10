"""GitHub's signature: its header, and the digest of a body."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit.github import GitHub
from stackit.github.signature import HEADER, mac, parse
from stackit.web.webhook_secrets import Secrets


def verifies(secrets: Secrets, digest: bytes, body: bytes) -> bool:
    verifier = secrets.begin()
    verifier.update(body)
    return bool(verifier.matches(digest))


def test_the_example_of_githubs_documentation_verifies() -> None:
    secrets = Secrets(GitHub(), ["It's a Secret to Everybody"], [], print)
    digits = parse((b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",))
    assert digits is not None
    assert verifies(secrets, digits, b"Hello, World!")
    assert not verifies(secrets, digits, b"Hello, World?")


@pytest.mark.parametrize(
    "values",
    [
        (),
        (b"",),
        (b"sha256=",),
        (b"sha256=" + b"0" * 63,),
        (b"sha256=" + b"0" * 65,),
        (b"sha256=" + b"A" * 64,),
        (b"sha1=" + b"0" * 40,),
        (b"SHA256=" + b"0" * 64,),
        (b"0" * 64,),
        (b"sha256= " + b"0" * 63,),
        (b"sha256=" + b"0" * 64 + b"\n",),
        (b"sha256=" + b"\xff" * 64,),
        (b"sha256=" + "٠".encode() * 32,),  # noqa: RUF001 - digits, but not these
        (b"sha256=" + b"0" * 64, b"sha256=" + b"0" * 64),
        (b"sha256=" + b"0" * 64 + b", sha256=" + b"0" * 64,),
    ],
)
def test_only_one_header_of_the_exact_form_is_a_signature(values: tuple[bytes, ...]) -> None:
    assert parse(values) is None


@given(st.binary(max_size=200), st.binary(max_size=80), st.integers(1, 50))
def test_a_body_in_pieces_has_the_digest_that_its_header_claims(body: bytes, secret: bytes, size: int) -> None:
    digits = hmac.new(secret, body, hashlib.sha256).hexdigest()
    claim = GitHub().claim({HEADER: (f"sha256={digits}".encode(),)})
    digest = mac(secret)
    for at in range(0, len(body), size):
        digest.update(body[at : at + size])
    assert claim is not None
    assert claim.digest == digest.digest()
    assert claim.covers_body


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_a_header_that_is_no_signature_claims_none_whatever_its_bytes(values: list[bytes]) -> None:
    digest = parse(values)
    assert digest is None or values == [b"sha256=" + digest.hex().encode()]
