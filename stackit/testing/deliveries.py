"""Deliveries as GitHub makes them: headers, body and signatures, for any event."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from stackit.testing.catalogue import payload_for
from stackit.testing.objects import number

HOOK_ID = 292430182


class SignedDelivery(msgspec.Struct, frozen=True):
    """One delivery, ready to be sent with POST. ``guid`` is its X-GitHub-Delivery."""

    headers: dict[str, str]
    body: bytes
    guid: str


def delivery(
    event: str,
    payload: Mapping[str, Any] | bytes | None = None,
    *,
    secret: str | bytes | None,
    action: str | None = None,
    guid: str | None = None,
    hook_id: int = HOOK_ID,
    target: tuple[str, int] | None = None,
    form: bool = False,
) -> SignedDelivery:
    """Return a delivery of ``event``, signed with ``secret``; with None it has no signature.

    Without ``payload``, one is made up (``payload_for``), with ``action`` if given; bytes go as they are. ``form``
    sends it as ``payload=…``, which is what a webhook on GitHub does unless its content type is set to JSON.
    ``target``: whose webhook it is, as ``("integration", 7)`` for App 7; by default that of a repository, or of an
    organization for an event without one.

    Headers as in GitHub's "Webhook events and payloads", Delivery headers; signatures as in "Validating webhook
    deliveries": over the body as sent, which for a form is the form.
    """
    if payload is None:
        payload = payload_for(event, action)
    elif isinstance(payload, Mapping) and action is not None:
        payload = {**payload, "action": action}
    text = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    body = urlencode({"payload": text}).encode() if form else text
    found = guid or str(uuid.uuid4())
    kind, owner = target or _target(payload)
    headers = {
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": found,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": str(hook_id),
        "X-GitHub-Hook-Installation-Target-Type": kind,
        "X-GitHub-Hook-Installation-Target-ID": str(owner),
    }
    if secret is not None:
        headers |= {
            "X-Hub-Signature": f"sha1={signature(body, secret, 'sha1')}",
            "X-Hub-Signature-256": f"sha256={signature(body, secret)}",
        }
    return SignedDelivery(headers, body, found)


def signature(body: bytes, secret: str | bytes, algorithm: str = "sha256") -> str:
    """Return the hex HMAC of ``body``, as X-Hub-Signature-256 has it after ``sha256=``."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, body, getattr(hashlib, algorithm)).hexdigest()


def _target(payload: Mapping[str, Any] | bytes) -> tuple[str, int]:
    """Return the target of the webhook: the repository, or the organization of an event without one."""
    kind, found = "organization", number("octo")
    if isinstance(payload, Mapping) and isinstance(payload.get("repository"), Mapping):
        kind, found = "repository", payload["repository"].get("id", number("octo/widget"))
    return kind, found
