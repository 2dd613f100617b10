"""The removal of the secrets of a configuration from texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stackit.api.reactor import Timers
from stackit.config.checks import secret_file
from stackit.config.model import Config, secret_files, secrets
from stackit.secrets.redactor import Redactor, proxy_passwords


def redactor(config: Config, reactor: Timers) -> Redactor:
    """Return a redactor for the secrets of a configuration, those in its files, and the passwords of proxies."""
    return Redactor((*secrets(config), *proxy_passwords(os.environ)), secret_files(config), reactor.seconds)


def add_secret_file(redact: Redactor, file: Path) -> Callable[[], None]:
    """Keep the secret of a plugin's file out of texts. Return a function that does so for what the file holds now.

    Raises ValueError for a file that holds none.
    """
    secret_file(file)
    redact.add_files([file])
    return partial(redact.refresh, file)
