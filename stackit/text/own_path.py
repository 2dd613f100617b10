"""A path of this very site, to which a browser is sent."""

from __future__ import annotations

import re

_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@%?-][A-Za-z0-9._~!$&'()*+,;=:@%?/-]*)?", re.ASCII)
_LONGEST = 1000


def own_path(text: str) -> str:
    """Return a path to go on to, "/" for anything that leads, or could lead, elsewhere."""
    return text if len(text) <= _LONGEST and _PATH.fullmatch(text) else "/"
