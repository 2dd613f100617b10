"""Credentials of API requests: JWTs of Apps and tokens, refused in GitHub's words."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import jwt

from stackit.testing.github_api.answers import ANONYMOUS, Access, ApiRefused, Caller, forbidden
from stackit.testing.github_api.apps import Apps, PretendApp
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.tokens import Token, Tokens

LONGEST_LIFE = 600
"""Seconds that a JWT may last from now, by GitHub's clock."""

_UNREADABLE = "A JSON web token could not be decoded"


class Authenticator:
    """Tells who asks."""

    def __init__(self, apps: Apps, tokens: Tokens, clock: SettableClock) -> None:
        self._apps = apps
        self._tokens = tokens
        self._clock = clock

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return who asks. Raises ApiRefused for a credential that is not valid."""
        credential = _credential(headers.get("authorization", ""))
        if credential is None:
            return ANONYMOUS
        if credential.startswith("eyJ"):
            app = self._app(credential)
            return Caller(label=f"app:{app.id}", app=app)
        token = self._tokens.find(credential)
        if token is None or token.usable in ("unknown yet", "expired", "revoked"):
            raise ApiRefused(401, "Bad credentials")
        if token.installation is not None:
            if token.installation.suspended_at is not None:
                raise suspended()
            if token.usable != "yes":
                raise forbidden()
        return Caller(label=label(token), token=token)

    def _app(self, text: str) -> PretendApp:
        try:
            claims = jwt.decode(text, options={"verify_signature": False})
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            raise ApiRefused(401, _UNREADABLE) from None
        issuer = claims.get("iss")
        if not isinstance(issuer, str | int):
            raise ApiRefused(401, "Missing 'issuer' claim ('iss') in assertion")
        app = self._apps.issued_by(str(issuer))
        if app is None:
            raise ApiRefused(404, "Integration not found")
        if header.get("alg") != "RS256" or not any(_is_signed(text, key) for key in app.public_keys):
            raise ApiRefused(401, _UNREADABLE)
        now, issued, expires = self._clock.now(), claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or issued > now:
            raise ApiRefused(
                401,
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            )
        if not isinstance(expires, int) or expires <= now:
            raise ApiRefused(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the"
                " assertion expires",
            )
        if expires > now + LONGEST_LIFE:
            raise ApiRefused(401, "'Expiration time' claim ('exp') is too far in the future")
        return app


def check(caller: Caller, access: Access) -> None:
    """Let a caller use a route, or raise ApiRefused."""
    if access == "app" and caller.app is None:
        raise ApiRefused(401, _UNREADABLE)
    if access in ("installation", "token") and caller.token is None:
        raise ApiRefused(401, "Requires authentication" if caller.app is None else "Bad credentials")
    if access == "installation" and caller.token is not None and caller.token.installation is None:
        raise ApiRefused(
            403,
            "You must authenticate with an installation access token in order to list repositories for an"
            " installation.",
        )


def suspended() -> ApiRefused:
    """Return the refusal of everything that a suspended installation asks."""
    return ApiRefused(403, "This installation has been suspended")


def label(token: Token) -> str:
    """Return who asks with a token."""
    if token.installation is not None:
        return f"installation:{token.installation.id}"
    return f"user:{(token.person or token.owner).login}"


def _is_signed(text: str, key: object) -> bool:
    try:
        jwt.decode(
            text,
            key,  # type: ignore[arg-type]  # one of cryptography's, which PyJWT takes
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
    except jwt.PyJWTError:
        return False
    return True


def _credential(header: str) -> str | None:
    """Return the token of ``Authorization: Bearer`` or ``token``, or the password of ``Basic``; None without it."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
