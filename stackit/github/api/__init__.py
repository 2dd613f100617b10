"""GitHub's API: a client that obeys its limits, its paging, its redirects and its clock."""

from stackit.api.github import ApiError, ApiReason
from stackit.github.api.answer import NoAnswer
from stackit.github.api.app_key import AppKey, JwtCredential, load_key
from stackit.github.api.client import ApiClient
from stackit.github.api.clients import ApiClients
from stackit.github.api.clock import GitHubClock
from stackit.github.api.credentials import Credential, NoCredential, TokenCredential
from stackit.github.api.expiries import TokenExpiries

__all__ = [
    "ApiClient",
    "ApiClients",
    "ApiError",
    "ApiReason",
    "AppKey",
    "Credential",
    "GitHubClock",
    "JwtCredential",
    "NoAnswer",
    "NoCredential",
    "TokenCredential",
    "TokenExpiries",
    "load_key",
]
