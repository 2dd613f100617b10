"""The query and the body of requests and answers, as values of Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

_MOST_PARAMETERS = 32


def parse_query(query: bytes) -> Mapping[str, str]:
    """Return the last value of each parameter. Raises ValueError for a query that can be read in several ways."""
    pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    return dict(pairs)


def encode_body(body: Any) -> bytes | None:
    """Return a body as bytes: bytes and None as they are, anything else as JSON.

    Raises TypeError or ValueError for a body that is not JSON-able.
    """
    if body is None:
        return None
    if isinstance(body, bytes):
        return b"".join([body])  # of a class of its own, it may tell another length than it has
    # Pure ASCII: a ref whose bytes are not UTF-8 is a str with surrogates, which no other encoding takes.
    text = json.dumps(body, ensure_ascii=True, allow_nan=False, default=msgspec.to_builtins)
    return text.encode("ascii") + b"\n"
