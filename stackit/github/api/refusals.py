"""The answers of GitHub's API that are errors: its own words, and what they mean."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from stackit.api.github import ApiReason
from stackit.github.api.answer import HttpAnswer


class Problem(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    message: str = ""


def message_of(answer: HttpAnswer) -> str:
    """Return GitHub's own words for an error; nothing where the body has none."""
    try:
        return msgspec.json.decode(answer.body, type=Problem).message
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""


def reason_of(status: int, message: str) -> ApiReason:
    """Return the reason for an answer that is an error, and that no limit explains."""
    if status == HTTPStatus.UNAUTHORIZED:
        return "unauthorized"
    if status in (403, 451):
        return "suspended" if "suspended" in message.lower() else "forbidden"
    if status in (404, 410):
        return "not_found"
    return "validation" if status < 500 else "server"


def refuses_version(answer: HttpAnswer) -> bool:
    """Return True if the version of the API that was asked for is what is wrong with a request."""
    return "version" in message_of(answer).lower()
