"""OAuth for people: grants of the web flow and of the device flow, and the tokens that they end in.

Sources: "Generating a user access token for a GitHub App" and "Authorizing OAuth apps" of GitHub's documentation; PKCE
as RFC 7636, of which GitHub has S256 only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
from typing import Literal

import msgspec

from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.changes import Change, Changes
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.owners import Owner
from stackit.testing.github_api.tokens import Token, Tokens

CODE_LIFE = 600.0
DEVICE_CODE_LIFE = 900.0
POLL_INTERVAL = 5.0
USER_TOKEN_LIFE = 28_800.0
REFRESH_TOKEN_LIFE = 15_811_200.0

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

Problem = Literal[
    "access_denied",
    "authorization_pending",
    "bad_refresh_token",
    "bad_verification_code",
    "device_flow_disabled",
    "expired_token",
    "incorrect_client_credentials",
    "incorrect_device_code",
    "redirect_uri_mismatch",
    "slow_down",
    "unsupported_grant_type",
]


class LoginRefused(Exception):
    """A grant is refused, with GitHub's code for it. ``interval``: seconds between polls of a device from now on."""

    def __init__(self, problem: Problem, interval: float | None = None) -> None:
        super().__init__(problem)
        self.problem: Problem = problem
        self.interval = interval


class WebGrant(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a person granted in the browser, which a code stands for. ``challenge``: that of PKCE, "" without it."""

    app: PretendApp
    person: Owner
    redirect_uri: str
    challenge: str
    expires_at: float


class DeviceGrant(msgspec.Struct, kw_only=True, eq=False):
    """A device that waits. ``person`` is set once somebody entered its user code; ``interval`` grows by impatience."""

    app: PretendApp
    device_code: str
    user_code: str
    expires_at: float
    interval: float = POLL_INTERVAL
    polled_at: float = float("-inf")
    person: Owner | None = None
    denied: bool = False


class UserTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A token of a person, ``ghu_…``, and the one that renews it, ``ghr_…``."""

    access_token: str
    refresh_token: str


class Logins:
    """Every grant.

    ``browser``: who is signed in in the browser, and says yes at once, or no with ``denies``. ``device_flow``: the
    ids of the Apps that have it enabled, as GitHub wants it in the settings of each. ``poll_interval``: seconds between
    two questions of a new device.
    """

    def __init__(self, tokens: Tokens, clock: SettableClock, changes: Changes) -> None:
        self.browser: Owner | None = None
        self.denies = False
        self.device_flow: set[int] = set()
        self.poll_interval = POLL_INTERVAL
        self._tokens = tokens
        self._clock = clock
        self._changes = changes
        self._granted: dict[tuple[int, int], list[str]] = {}
        self._web: dict[str, WebGrant] = {}
        self._devices: dict[str, DeviceGrant] = {}
        self._refresh: dict[str, tuple[PretendApp, Owner, float]] = {}

    # The web flow

    def authorize(self, app: PretendApp, person: Owner, redirect_uri: str, challenge: str = "") -> str:
        """Note that a person said yes in the browser; return the code."""
        code = secrets.token_hex(10)
        self._web[code] = WebGrant(
            app=app,
            person=person,
            redirect_uri=redirect_uri,
            challenge=challenge,
            expires_at=self._clock.now() + CODE_LIFE,
        )
        return code

    def exchange(self, app: PretendApp, code: str, redirect_uri: str | None, verifier: str) -> UserTokens:
        """Return tokens for a code, which works once, also if it is refused. Raises LoginRefused."""
        grant = self._web.pop(code, None)
        if grant is None or grant.app is not app or grant.expires_at < self._clock.now():
            raise LoginRefused("bad_verification_code")
        if redirect_uri is not None and redirect_uri != grant.redirect_uri:
            raise LoginRefused("redirect_uri_mismatch")
        if grant.challenge and not hmac.compare_digest(grant.challenge, _challenge(verifier)):
            raise LoginRefused("bad_verification_code")
        return self._issue(app, grant.person)

    # The device flow

    def begin_device(self, app: PretendApp) -> DeviceGrant:
        """Return a device's codes. Raises LoginRefused where the App has not enabled it."""
        if app.id not in self.device_flow:
            raise LoginRefused("device_flow_disabled")
        letters = "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(8))
        made = DeviceGrant(
            app=app,
            device_code=secrets.token_hex(20),
            user_code=f"{letters[:4]}-{letters[4:]}",
            expires_at=self._clock.now() + DEVICE_CODE_LIFE,
            interval=self.poll_interval,
        )
        self._devices[made.device_code] = made
        return made

    @property
    def waiting(self) -> list[str]:
        """The user codes of the devices that wait."""
        return [each.user_code for each in self._devices.values()]

    def enter(self, user_code: str, person: Owner, *, deny: bool = False) -> None:
        """Enter a user code, as a person does in a browser. Raises LookupError."""
        found = next((each for each in self._devices.values() if each.user_code == user_code), None)
        if found is None:
            raise LookupError(f"no device waits with the code {user_code}")
        found.person, found.denied = person, deny

    def poll(self, app: PretendApp, device_code: str) -> UserTokens:
        """Return tokens once a person has said yes. Raises LoginRefused before, after, and for polls in haste."""
        found = self._devices.get(device_code)
        if found is None or found.app is not app:
            raise LoginRefused("incorrect_device_code")
        now = self._clock.now()
        if now >= found.expires_at:
            raise LoginRefused("expired_token")
        hasty, found.polled_at = now < found.polled_at + found.interval, now
        if hasty:
            found.interval += POLL_INTERVAL
            raise LoginRefused("slow_down", found.interval)
        if found.denied:
            raise LoginRefused("access_denied")
        if found.person is None:
            raise LoginRefused("authorization_pending")
        del self._devices[device_code]
        return self._issue(app, found.person)

    # Both

    def renew(self, app: PretendApp, refresh_token: str) -> UserTokens:
        """Return new tokens for a refresh token, which works once. Raises LoginRefused."""
        found = self._refresh.pop(refresh_token, None)
        if found is None or found[0] is not app or found[2] < self._clock.now():
            raise LoginRefused("bad_refresh_token")
        return self._issue(app, found[1])

    async def revoke(self, app: PretendApp, person: Owner) -> None:
        """End every token of a person, as they do in their settings."""
        for each in self._granted.pop((app.id, person.id), []):
            self._tokens.revoke(each)
        self._refresh = {each: about for each, about in self._refresh.items() if about[:2] != (app, person)}
        await self._changes.tell(Change(kind="github_app_authorization.revoked", app=app, owner=person))

    def _issue(self, app: PretendApp, person: Owner) -> UserTokens:
        issued = UserTokens(access_token=f"ghu_{_letters()}", refresh_token=f"ghr_{_letters(76)}")
        now = self._clock.now()
        self._granted.setdefault((app.id, person.id), []).append(issued.access_token)
        self._refresh[issued.refresh_token] = (app, person, now + REFRESH_TOKEN_LIFE)
        self._tokens.add(
            Token(
                issued.access_token,
                self._clock,
                permissions={"metadata": "read"},
                expires_at=now + USER_TOKEN_LIFE,
                owner=person,
                person=person,
            )
        )
        return issued


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _letters(length: int = 36) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))
