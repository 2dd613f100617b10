"""Where a browser reaches the admin side, as far as the configuration tells."""

from __future__ import annotations

from urllib.parse import urlsplit

from stackit.api.errors import StackitError
from stackit.config import checks
from stackit.config.model import Config


def admin_base(config: Config) -> str:
    """Return the URL at which a browser reaches the admin side. Raises StackitError where it is not known."""
    if config.admin.url is not None:
        base = config.admin.url.rstrip("/")
        host = urlsplit(base).hostname or ""
        if not checks.is_loopback(host) and host not in (each.lower() for each in config.admin.hosts):
            raise StackitError(
                f"the admin side does not answer to {host}: add it to admin.hosts, as admin.url names it"
            )
        return base
    known = not config.admin.listen.startswith("systemd:")
    url = checks.endpoint(config.admin.listen).url if known else None
    if url is None:
        raise StackitError("a browser has to come back to the admin side: set admin.url, where it is reached")
    return url
