"""The key of an App, and what it signs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_twisted
from api_server import Say
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.internet.defer import Deferred

from stackit import StackitError
from stackit.github.api import AppKey, GitHubClock, JwtCredential, load_key


def pem(key: Any, encryption: Any = None, form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))


@pytest.fixture(scope="session")
def keys() -> list[rsa.RSAPrivateKey]:
    return [rsa.generate_private_key(65537, 2048) for _ in range(2)]


@pytest.fixture
def file(tmp_path: Path, keys: Any) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(keys[0]))
    return path


def put(file: Path, content: bytes) -> None:
    """Replace a file."""
    file.with_suffix(".new").write_bytes(content)
    file.with_suffix(".new").rename(file)


def claims(authorization: str, key: Any) -> dict[str, Any]:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = authorization.removeprefix("Bearer ")
    return dict(jwt.decode(token, public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}))


@pytest_twisted.ensureDeferred
async def test_a_token_is_dated_back_a_minute_and_lives_for_less_than_ten(pair: Any, file: Path, keys: Any) -> None:
    clock = GitHubClock("x", lambda: 1_000_000.0, pair.notices.append)
    credential = JwtCredential("main", "Iv1.a", AppKey(pair.time, file), clock)
    first = await credential.authorization()
    assert claims(first, keys[0]) == {"iat": 999_940, "exp": 1_000_540, "iss": "Iv1.a"}
    assert await credential.authorization() == first


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_replaced_signs_the_next_token(pair: Any, file: Path, keys: Any) -> None:
    clock = GitHubClock("x", time.time, pair.notices.append)
    credential = JwtCredential("main", "1", AppKey(pair.time, file), clock)
    await credential.authorization()
    put(file, pem(keys[1]))
    assert claims(await credential.authorization(), keys[1])["iss"] == "1"


@pytest_twisted.ensureDeferred
async def test_a_changed_file_without_a_key_leaves_the_old_one_in_use(
    pair: Any, file: Path, keys: Any, logged: list[Any]
) -> None:
    clock = GitHubClock("x", pair.time.now, pair.notices.append)
    credential = JwtCredential("main", "1", AppKey(pair.time, file), clock)
    await credential.authorization()
    put(file, b"half a fi")
    for _ in range(2):
        assert claims(await credential.authorization(), keys[0])["iss"] == "1"
    assert ["used on" in str(event["log_format"]) for event in logged] == [True]


def test_a_file_that_holds_no_key_of_an_app_is_refused_in_one_line(tmp_path: Path, keys: Any) -> None:
    file = tmp_path / "key.pem"
    wrong = [
        (b"", "no private key in PEM"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----\n", "no private key in PEM"),
        (pem(keys[0], BestAvailableEncryption(b"pass")), "without a password"),
        (pem(ec.generate_private_key(ec.SECP256R1()), form=PrivateFormat.PKCS8), "no RSA key"),
        (pem(rsa.generate_private_key(65537, 1024)), "at least 2048 bits"),  # noqa: S505 - refused
        (b"x" * 70_000, "no private key in PEM"),
    ]
    for content, said in wrong:
        file.write_bytes(content)
        with pytest.raises(StackitError, match=said) as problem:
            load_key(file)
        assert "SECRET" not in str(problem.value)
        assert "\n" not in str(problem.value)
    file.unlink()
    with pytest.raises(StackitError, match="cannot be read: No such file"):
        load_key(file)


@pytest.mark.parametrize("ahead", [300.0, -300.0])
@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_minutes_off_costs_one_answer(pair: Any, file: Path, keys: Any, ahead: float) -> None:
    """GitHub refuses what is dated in its future, and what ends more than ten minutes from now."""
    pair.server.now = lambda: pair.time.now() - ahead
    credential = JwtCredential("main", "1", AppKey(pair.time, file), pair.clients.clock(pair.server.url))
    client = pair.make(credential)

    def judge(request: Any) -> None:
        github = pair.server.now()
        found = claims(request.getHeader("authorization"), keys[0])
        right = found["iat"] <= github < found["exp"] <= github + 600
        request.setResponseCode(200 if right else 401)
        request.write(b"{\"message\": \"'Issued at' claim ('iat') must be an Integer\"}")
        request.finish()

    pair.server.default = judge
    asked = [Deferred.fromCoroutine(client.get("/app", dict)) for _ in range(3)]
    for each in asked:
        assert "message" in await each
    assert len(pair.paths) == (4 if ahead > 0 else 3)  # a token that is dated back is valid all the same
    assert len(pair.notices) == 1
    assert f"{abs(ahead):.0f} seconds" in pair.notices[0]
    assert ("ahead of" in pair.notices[0]) is (ahead > 0)


@pytest_twisted.ensureDeferred
async def test_a_right_clock_is_told_to_nobody(pair: Any, file: Path) -> None:
    pair.server.default = Say()
    credential = JwtCredential("main", "1", AppKey(pair.time, file), pair.clients.clock(pair.server.url))
    await pair.make(credential).get("/app", dict)
    assert (pair.clients.clock(pair.server.url).offset, pair.notices) == (0.0, [])
