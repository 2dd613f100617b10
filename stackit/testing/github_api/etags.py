"""Entity tags, which are another for each token, as GitHub's are."""

from __future__ import annotations

import hashlib

import msgspec

from stackit.testing.github_api.answers import ApiAnswer, ApiRequest


def tagged(request: ApiRequest, answer: ApiAnswer) -> ApiAnswer:
    """Return an answer with its ``ETag``, or 304 where the client has what it says already."""
    if request.method != "GET" or answer.status != 200 or answer.body is None or isinstance(answer.body, bytes):
        return answer
    body = msgspec.json.encode(answer.body)
    credential = request.headers.get("authorization", "").encode()
    tag = f'"{hashlib.sha256(body + answer.headers.get("Link", "").encode() + credential).hexdigest()}"'
    headers = {**answer.headers, "ETag": f"W/{tag}", "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP"}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return msgspec.structs.replace(answer, status=304, body=None, headers=headers)
    return msgspec.structs.replace(answer, body=body, headers=headers)
