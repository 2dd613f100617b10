"""The removal of the secrets of a configuration from texts."""

from __future__ import annotations

import os

from stackit.api.reactor import Reactor
from stackit.config.model import Config, secret_files, secrets
from stackit.secrets.redactor import Redactor, proxy_passwords


def redactor(config: Config, reactor: Reactor) -> Redactor:
    """Return what takes the secrets of this configuration out of texts."""
    return Redactor((*secrets(config), *proxy_passwords(os.environ)), secret_files(config), reactor.seconds)
