"""Signatures of other kinds than GitHub's: a token that is the same for every body, and signed headers."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit import Claim, RequestHead
from stackit.github import GitHub
from stackit.web.webhook import SignedBody, Webhook
from stackit.web.webhook_secrets import Secrets

SECRET = b"a token of many characters"


def secrets_of(forge: GitHub) -> Secrets:
    return Secrets(forge, [SECRET.decode()], [], print)


class TokenMac:
    """The digest of a token, whatever the body is."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    def copy(self) -> Self:
        return self

    def update(self, data: bytes) -> None:
        """Leave the body out."""

    def digest(self) -> bytes:
        return hashlib.sha256(self._token).digest()


class TokenForge(GitHub):
    """A forge that sends its secret in a header."""

    def mac(self, secret: bytes) -> Any:
        return TokenMac(secret)


def body_of(forge: GitHub, claim: Claim, *pieces: bytes) -> SignedBody:
    verifier = secrets_of(forge).begin()
    head = RequestHead(client="198.51.100.7", method=b"POST", path=b"/", headers={})
    signed = SignedBody(head, limit=1000, verifier=verifier, claim=claim, refused=None)
    for piece in pieces:
        signed.update(piece)
    return signed


def test_a_token_verifies_every_body_and_each_body_has_a_fingerprint_of_its_own() -> None:
    right = Claim(hashlib.sha256(SECRET).digest(), covers_body=False)
    signed = [body_of(TokenForge(), right, body) for body in (b"one", b"two", b"one")]
    assert all(each.verified(secrets_of(TokenForge())) for each in signed)
    prints = [each.fingerprint(body) for each, body in zip(signed, (b"one", b"two", b"one"), strict=True)]
    assert prints[0] == prints[2] != prints[1]
    wrong = Claim(hashlib.sha256(b"another").digest(), covers_body=False)
    assert not body_of(TokenForge(), wrong, b"one").verified(secrets_of(TokenForge()))


class Harness:
    """The endpoint of a forge, and the fingerprints that it made."""

    def __init__(self, forge: GitHub) -> None:
        self.fingerprints: list[bytes] = []
        self.secrets = secrets_of(forge)
        self.webhook = Webhook(
            forge,
            secrets=self.secrets,
            admit=lambda head: None,
            observe=lambda occurrence: None,
            take=lambda event, digest, done: self.fingerprints.append(digest),
            now=lambda: 1.0,
            max_body=1000,
        )

    def fingerprint(self, body: bytes) -> bytes:
        head = RequestHead(client="198.51.100.7", method=b"POST", path=b"/", headers={})
        signed = self.webhook.handle_head(head, len(body))
        assert isinstance(signed, SignedBody)
        signed.update(body)
        assert signed.verified(self.secrets)
        return signed.fingerprint(body)


class Alpha(TokenForge):
    name = "alpha"

    def claim(self, headers: Any) -> Claim:
        return Claim(hashlib.sha256(SECRET).digest(), covers_body=False)


class Beta(Alpha):
    name = "beta"


def test_a_body_of_one_forge_has_not_the_fingerprint_of_the_same_body_of_another() -> None:
    alpha, beta = Harness(Alpha()), Harness(Beta())
    prints = [each.fingerprint(b"body") for each in (alpha, beta, alpha)]
    assert prints[0] == prints[2] != prints[1]
    assert alpha.fingerprint(b"another") not in prints
    # Nor has a body that begins with the name of the other, and the forge is always part of it.
    assert hashlib.sha256(b"body").digest() not in prints
    assert beta.fingerprint(b"alpha:body") not in prints


@given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=3))
def test_what_is_signed_in_front_of_the_body_counts(before: bytes, pieces: list[bytes]) -> None:
    right = Claim(hmac.new(SECRET, before + b"".join(pieces), hashlib.sha256).digest(), before=before)
    assert body_of(GitHub(), right, *pieces).verified(secrets_of(GitHub()))
    assert not body_of(GitHub(), Claim(right.digest, before=before + b"."), *pieces).verified(secrets_of(GitHub()))


@pytest.mark.parametrize("digest", [b"", b"\0", b"\0" * 31, b"\0" * 33])
def test_a_claim_of_another_length_is_wrong(digest: bytes) -> None:
    assert not body_of(GitHub(), Claim(digest), b"body").verified(secrets_of(GitHub()))
