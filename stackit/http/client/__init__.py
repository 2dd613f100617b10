"""An HTTP client for plugins: connections that are kept, answers that are whole and bounded.

``Client`` is for most; ``ConnectionPool`` for who writes requests by the byte.
"""

from stackit.http.client.client import Client
from stackit.http.client.connector import Address
from stackit.http.client.errors import RemoteError
from stackit.http.client.pool import ConnectionPool
from stackit.http.client.response import Response
from stackit.http.client.retry_after import parse_retry_after
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import TlsFiles
from stackit.http.client.urls import parse_url

__all__ = [
    "Address",
    "Client",
    "ConnectionPool",
    "RemoteError",
    "Response",
    "Timeouts",
    "TlsFiles",
    "parse_retry_after",
    "parse_url",
]
