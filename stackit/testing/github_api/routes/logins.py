"""OAuth: the page where a person says yes, and the addresses where clients fetch tokens."""

from __future__ import annotations

from collections.abc import Mapping

from stackit.testing.github_api.answers import ApiAnswer, ApiRequest
from stackit.testing.github_api.apps import Apps, PretendApp
from stackit.testing.github_api.forms import fields, form, page, redirect, wants_json
from stackit.testing.github_api.logins import (
    DEVICE_CODE_LIFE,
    DEVICE_GRANT,
    REFRESH_TOKEN_LIFE,
    USER_TOKEN_LIFE,
    LoginRefused,
    Logins,
    Problem,
    UserTokens,
)
from stackit.testing.github_api.router import Router
from stackit.testing.objects import Json

_TEXTS: dict[Problem, str] = {
    "access_denied": "The authorization request was denied.",
    "authorization_pending": "The authorization request is still pending.",
    "bad_refresh_token": "The refresh token passed is incorrect or expired.",
    "bad_verification_code": "The code passed is incorrect or expired.",
    "device_flow_disabled": "Device Flow must be explicitly enabled for this App",
    "expired_token": "This 'device_code' has expired.",
    "incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
    "incorrect_device_code": "The device_code provided is not valid.",
    "redirect_uri_mismatch": "The redirect_uri MUST match the registered callback URL for this application.",
    "slow_down": "Too many requests have been made in the same timeframe.",
    "unsupported_grant_type": "The grant_type is not supported.",
}


class LoginRoutes:
    """The routes of logins. They are of the site, and not of its API."""

    def __init__(self, apps: Apps, logins: Logins) -> None:
        self._apps = apps
        self._logins = logins

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("GET", "/login/oauth/authorize", self._authorize, access="none", web=True)
        router.add("POST", "/login/oauth/access_token", self._token, access="none", web=True)
        router.add("POST", "/login/device/code", self._device, access="none", web=True)
        router.add("GET", "/login/device", self._device_page, access="none", web=True)

    def _authorize(self, request: ApiRequest) -> ApiAnswer:
        asked = request.query
        app = self._app(asked)
        person = self._logins.browser
        if app is None:
            return page("Page not found", "There is no such App.", status=404)
        if person is None:
            return redirect(f"{request.site_url}/login", {"return_to": request.path})
        if not app.callback_urls:
            return page("Not set up", "The App has no callback URL.", status=400)
        uri, state = asked.get("redirect_uri", app.callback_urls[0]), asked.get("state")
        more = {} if state is None else {"state": state}
        if uri not in app.callback_urls:  # exactly as it is registered; the person is not sent where it is not
            return redirect(app.callback_urls[0], _explained("redirect_uri_mismatch") | more)
        challenge = asked.get("code_challenge", "")
        if challenge and asked.get("code_challenge_method") != "S256":
            text = "The code_challenge_method must be S256."
            return redirect(uri, {"error": "invalid_request", "error_description": text} | more)
        if self._logins.denies:
            return redirect(uri, _explained("access_denied") | more)
        return redirect(uri, {"code": self._logins.authorize(app, person, uri, challenge)} | more)

    def _token(self, request: ApiRequest) -> ApiAnswer:
        """Answer with tokens, or with the error in the body and status 200, as GitHub does."""
        asked = fields(request)
        try:
            tokens = self._granted(asked)
        except LoginRefused as refused:
            interval = {} if refused.interval is None else {"interval": int(refused.interval)}
            return _answer(request, _explained(refused.problem) | interval)
        return _answer(
            request,
            {
                "access_token": tokens.access_token,
                "expires_in": int(USER_TOKEN_LIFE),
                "refresh_token": tokens.refresh_token,
                "refresh_token_expires_in": int(REFRESH_TOKEN_LIFE),
                "scope": "",  # the permissions of an App are no scopes
                "token_type": "bearer",
            },
        )

    def _granted(self, asked: dict[str, str]) -> UserTokens:
        app, grant = self._app(asked), asked.get("grant_type", "authorization_code")
        if app is None:
            raise LoginRefused("incorrect_client_credentials")
        if grant == DEVICE_GRANT:  # which needs no secret
            return self._logins.poll(app, asked.get("device_code", ""))
        if asked.get("client_secret") != app.client_secret:
            raise LoginRefused("incorrect_client_credentials")
        if grant == "refresh_token":
            return self._logins.renew(app, asked.get("refresh_token", ""))
        if grant != "authorization_code":
            raise LoginRefused("unsupported_grant_type")
        return self._logins.exchange(
            app, asked.get("code", ""), asked.get("redirect_uri"), asked.get("code_verifier", "")
        )

    def _device(self, request: ApiRequest) -> ApiAnswer:
        app = self._app(fields(request))
        if app is None:
            return ApiAnswer(status=404, body={"error": "Not Found"})
        try:
            made = self._logins.begin_device(app)
        except LoginRefused as refused:
            return _answer(request, _explained(refused.problem))
        return _answer(
            request,
            {
                "device_code": made.device_code,
                "user_code": made.user_code,
                "verification_uri": f"{request.site_url}/login/device",
                "expires_in": int(DEVICE_CODE_LIFE),
                "interval": int(made.interval),
            },
        )

    def _device_page(self, request: ApiRequest) -> ApiAnswer:  # noqa: ARG002 - as every handler
        return page("Device Activation", "Enter the code displayed on your device.")

    def _app(self, asked: Mapping[str, str]) -> PretendApp | None:
        client_id = asked.get("client_id")
        return next((each for each in self._apps if each.client_id == client_id), None)


def _explained(problem: Problem) -> dict[str, str]:
    uri = f"https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting#{problem}"
    return {"error": problem, "error_description": _TEXTS[problem], "error_uri": uri}


def _answer(request: ApiRequest, values: Json) -> ApiAnswer:
    return ApiAnswer(body=values) if wants_json(request) else form(values)
