"""The refusals of the public side, beside those of HTTP itself (``stackit.http.server.refusals``)."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.admin import Refused, RequestHead, Response, error, whole_seconds
from stackit.api.occurrences import Occurrence, RefusalReason
from stackit.http.server.refusals import RETRY_AFTER, Refusal, refusal


class RefusalReporter:
    """Tell the observers about refused requests, as occurrences ``refused``."""

    __slots__ = ("_client_of", "_observe")

    def __init__(
        self, observe: Callable[[Occurrence], None], client_of: Callable[[RequestHead], str | None] = lambda _: None
    ) -> None:
        """``client_of`` returns the address of a client behind a trusted proxy; None for the one that connected."""
        self._observe = observe
        self._client_of = client_of

    def __call__(self, client: str, head: RequestHead | None, refusal: Refusal, verified_by: str | None = None) -> None:
        """``client`` is an address; ``verified_by`` is the label of the secret under which the body verified.

        ``head`` is None if it did not arrive whole, or is no HTTP. Plugins see an empty one, with the client.
        """
        behind_proxy = None if head is None else self._client_of(head)
        self._observe(
            Occurrence(
                name="refused",
                reason=refusal.reason,
                status=refusal.response.status,
                client=behind_proxy or client,
                request=head or RequestHead(client=client, method=b"", path=b"", headers={}),
                verified_by=verified_by,
            )
        )


def _refusal(reason: RefusalReason, status: int, text: str, **headers: str) -> Refusal:
    return refusal(reason, status, text, **headers)


NO_SECRET = _refusal("no_secret", 404, "not found")
ENCODING = _refusal("encoding", 415, "a Content-Encoding is not supported: send the body as it is")
SIGNATURE = _refusal("signature", 401, "the signature is missing or wrong")
SCOPE = _refusal("scope", 401, "the signature is missing or wrong")  # who forges learns nothing from the answer
JOURNAL = _refusal("journal", 503, "the delivery cannot be stored now", **{"Retry-After": str(RETRY_AFTER)})
REPLAYED = _refusal("replayed", 409, "this body was delivered before, under another delivery id")


def from_plugin(refused: Refused) -> Refusal:
    """Return the refusal of a plugin, as it is sent."""
    texts = {429: "too many refused requests", 403: "forbidden"}
    headers = {} if refused.retry_after is None else {"Retry-After": str(whole_seconds(refused.retry_after))}
    body = error(refused.status, texts.get(refused.status, "refused")).body
    return Refusal(refused.reason, Response(status=refused.status, body=body, headers=headers))
