"""GitHub's OAuth for people: codes that are exchanged for a token, which is used to ask who it is, and dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from stackit.api.errors import StackitError
from stackit.api.secret_file import SecretFile
from stackit.api.version import VERSION
from stackit.config.apps import AppConfig
from stackit.github.api import ApiClients, NoAnswer

_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_LARGEST = 2**20
_MORE = 5.0
"""Seconds that ``slow_down`` adds to the pause between two questions."""
_CODE = re.compile("[a-z_]{1,60}", re.ASCII)

T = TypeVar("T")


class GitHubUser(msgspec.Struct, frozen=True):
    """A person at GitHub. The login may change, and be somebody else's then; the id never."""

    id: int
    login: str


class DeviceCodes(msgspec.Struct, frozen=True, kw_only=True):
    """GitHub's codes for a device: the person enters ``user_code`` at ``verification_uri``. Times are in seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: float
    interval: float = 5.0

    def __repr__(self) -> str:
        return f"DeviceCodes(verification_uri={self.verification_uri!r})"


class OAuthError(StackitError):
    """GitHub refuses: ``code`` is its own word for the reason, "" where it gave no answer."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Pending(Exception):
    """The person has not entered the code yet. ``interval``: seconds until the next question."""

    def __init__(self, interval: float) -> None:
        super().__init__(f"not yet; ask again in {interval:g} seconds")
        self.interval = interval


class _Granted(msgspec.Struct, frozen=True):
    access_token: str = ""
    error: str = ""
    interval: float | None = None

    def __repr__(self) -> str:
        return f"_Granted(error={self.error!r})"


class _Refused(msgspec.Struct, frozen=True):
    error: str = ""


class OAuth:
    """The OAuth of one App."""

    def __init__(self, clients: ApiClients, app: AppConfig, client_id: str, secret: SecretFile | None) -> None:
        """``secret`` holds a client secret of the App: the web flow needs one."""
        self._clients = clients
        self._app = app
        self._client_id = client_id
        self._secret = secret

    def authorize_url(self, redirect_uri: str, state: str, challenge: str) -> str:
        """Return the address at GitHub at which a person says yes."""
        query = {
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "prompt": "select_account",
        }
        return f"{self._app.web_url}/login/oauth/authorize?{urlencode(query)}"

    async def exchange(self, code: str, redirect_uri: str, verifier: str) -> GitHubUser:
        """Return the person whose code it is. Raises OAuthError, and StackitError for a secret that cannot be read."""
        if self._secret is None:
            raise StackitError("the login by a browser needs login.client_secret_file")
        fields = {
            "client_secret": self._secret.read(),
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        granted = await self._post("/login/oauth/access_token", fields, _Granted)
        if not granted.access_token:
            raise self.refusal(granted.error, redirect_uri)
        return await self._user(granted.access_token)

    async def begin_device(self) -> DeviceCodes:
        """Return codes for a device. Raises OAuthError."""
        return await self._post("/login/device/code", {}, DeviceCodes)

    async def poll(self, codes: DeviceCodes, interval: float) -> GitHubUser:
        """Return the person who entered the code of a device. Raises Pending before, OAuthError where nobody can."""
        fields = {"device_code": codes.device_code, "grant_type": _DEVICE_GRANT}
        granted = await self._post("/login/oauth/access_token", fields, _Granted)
        if granted.access_token:
            return await self._user(granted.access_token)
        if granted.error == "authorization_pending":
            raise Pending(interval)
        if granted.error == "slow_down":
            raise Pending(max(granted.interval or 0.0, interval + _MORE))
        raise self.refusal(granted.error)

    def refusal(self, code: str, redirect_uri: str = "") -> OAuthError:
        """Return the error for a word of GitHub's, with the way out."""
        name = self._app.name
        said = {
            "access_denied": "GitHub was told no: log in again if that was a mistake",
            "application_suspended": f"GitHub has suspended the App {name}",
            "bad_verification_code": "the code from GitHub is of no use any more: log in again",
            "device_flow_disabled": f'the App {name} has no device flow: tick "Enable Device Flow" in its settings',
            "expired_token": "the time for the code is over: log in again",
            "incorrect_client_credentials": (
                f"GitHub does not know the client id or the secret of App {name}: look at login.client_id and "
                "login.client_secret_file"
            ),
            "incorrect_device_code": "GitHub does not know the code any more: log in again",
            "redirect_uri_mismatch": (
                f"the App {name} may not send people back here: add {redirect_uri} to the callback URLs in its settings"
            ),
            "unverified_user_email": "GitHub wants your e-mail address to be verified first",
        }.get(code)
        shown = code if _CODE.fullmatch(code) else "no word that it has"
        return OAuthError(said or f"GitHub refuses the login: {shown}", code or "unknown")

    async def _user(self, token: str) -> GitHubUser:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        return await self._ask("GET", self._app.api_url, "/user", headers, None, GitHubUser)

    async def _post(self, path: str, fields: Mapping[str, str], type: type[T]) -> T:  # noqa: A002
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"client_id": self._client_id, **fields}).encode()
        return await self._ask("POST", self._app.web_url, path, headers, body, type)

    async def _ask(
        self,
        method: str,
        base: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        type: type[T],  # noqa: A002
    ) -> T:
        """Return the decoded answer. Its text may repeat what was sent, and is in no error."""
        headers = {"User-Agent": f"stackit/{VERSION}", **headers}
        try:
            answer = await self._clients.transport.request(method, base + path, headers, body, largest=_LARGEST)
        except NoAnswer as problem:
            self._clients.counts.count(path, problem.reason)
            raise OAuthError(f"GitHub cannot be asked who you are: {problem}; try again later") from None
        self._clients.counts.count(path, str(answer.status))
        found = _decoded(answer.body, type) if answer.status == 200 else None
        if found is not None:
            return found
        refused = _decoded(answer.body, _Refused)
        if refused is not None and refused.error and answer.status < 500:
            if answer.status == 404 and refused.error == "Not Found":
                raise self.refusal("incorrect_client_credentials")
            raise self.refusal(refused.error)
        raise OAuthError(f"GitHub cannot be asked who you are: {path} answered with status {answer.status}")


def _decoded(body: bytes, type: type[T]) -> T | None:  # noqa: A002
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
