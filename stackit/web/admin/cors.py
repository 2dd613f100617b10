"""Cross-origin requests (CORS): which pages of other origins may ask the admin side and read its answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from stackit.api.admin import RequestHead, Response

_HEADERS = "Authorization, Content-Type, Last-Event-ID, X-Stackit-CSRF"
"""The request headers that a page may send beside those that every page may."""

_METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
_EXPOSED = "ETag, Retry-After, WWW-Authenticate"
_MAX_AGE = "600"


class Cors(msgspec.Struct, frozen=True):
    """The origins whose pages may ask, with credentials, each exactly as a browser sends it in ``Origin``."""

    origins: Collection[str] = frozenset()

    def preflight(self, head: RequestHead) -> Response | None:
        """Return the answer to a browser that asks whether a page may send its request; None for any other request.

        It is the same for every path: who asks has shown no token. The request itself has to pass all protections.
        """
        if head.method != b"OPTIONS" or b"access-control-request-method" not in head.headers or not self._origin(head):
            return None
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": _MAX_AGE,
        }
        return Response(status=204, headers=headers)

    def share(self, head: RequestHead, response: Response) -> Response:
        """Return an answer with the headers that let a page of one of the origins read it."""
        if not self.origins:
            return response
        vary = ", ".join(filter(None, [response.headers.get("Vary"), "Origin"]))
        return msgspec.structs.replace(response, headers={**response.headers, "Vary": vary, **self._shared(head)})

    def _shared(self, head: RequestHead) -> Mapping[str, str]:
        origin = self._origin(head)
        if origin is None:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": _EXPOSED,
        }

    def _origin(self, head: RequestHead) -> str | None:
        values = head.headers.get(b"origin", ())
        origin = values[0].decode("latin-1") if len(values) == 1 else ""
        return origin if origin in self.origins else None
