"""Apps made from manifests: what a manifest has to say, and the codes that its App can be fetched with once.

Source: "Registering a GitHub App from a manifest" of GitHub's documentation.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from stackit.testing.catalogue import EVENTS
from stackit.testing.github_api.apps import Apps, PretendApp
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.hooks import Hooks
from stackit.testing.github_api.publisher import ALWAYS, NEEDS

CODE_LIFE = 3600.0
LONGEST_NAME = 34
MOST_CALLBACKS = 10


class HookAttributes(msgspec.Struct, frozen=True):
    """The webhook of a manifest."""

    url: str
    active: bool = True


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest, with the keys that GitHub documents."""

    url: str
    name: str = ""
    hook_attributes: HookAttributes | None = None
    redirect_url: str = ""
    callback_urls: list[str] = []
    setup_url: str = ""
    description: str = ""
    public: bool = False
    default_events: list[str] = []
    default_permissions: dict[str, str] = {}
    request_oauth_on_install: bool = False
    setup_on_update: bool = False


class ManifestRefused(Exception):
    """GitHub shows the manifest's faults to the person in the browser, and makes no App."""


class Manifests:
    """Makes Apps from manifests."""

    def __init__(self, apps: Apps, hooks: Hooks, clock: SettableClock) -> None:
        self._apps = apps
        self._hooks = hooks
        self._clock = clock
        self._codes: dict[str, tuple[PretendApp, float]] = {}

    def register(self, text: str, owner: str) -> tuple[Manifest, str]:
        """Make the App of a manifest, as a person does with one click. Return the manifest and the code of the App.

        Raises ManifestRefused.
        """
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except (msgspec.DecodeError, msgspec.ValidationError) as problem:
            raise ManifestRefused(f"Invalid GitHub App configuration: {problem}") from None
        self._check(manifest)
        app = self._apps.create(
            manifest.name or f"stackit-{secrets.token_hex(3)}",
            owner=owner,
            permissions=manifest.default_permissions,
            events=manifest.default_events,
        )
        app.events = list(manifest.default_events)
        app.callback_urls = list(manifest.callback_urls)
        hook = self._hooks.of_app(app)
        if manifest.hook_attributes is None:
            hook.active = False
        else:
            hook.config.url, hook.active = manifest.hook_attributes.url, manifest.hook_attributes.active
        code = secrets.token_hex(20)
        self._codes[code] = (app, self._clock.now() + CODE_LIFE)
        return manifest, code

    def convert(self, code: str) -> PretendApp | None:
        """Return the App of a code, once and within the hour; None after."""
        app, until = self._codes.pop(code, (None, 0.0))
        return app if self._clock.now() < until else None

    def _check(self, manifest: Manifest) -> None:
        """Raise ManifestRefused for what GitHub's form refuses."""
        problems = []
        if not manifest.url:
            problems.append("url is missing")
        if not manifest.redirect_url:
            problems.append("redirect_url is missing")
        if len(manifest.name) > LONGEST_NAME:
            problems.append(f"Name is too long (maximum is {LONGEST_NAME} characters)")
        if manifest.name.lower() in (each.name.lower() for each in self._apps):
            problems.append("Name is already taken")
        if len(manifest.callback_urls) > MOST_CALLBACKS:
            problems.append(f"callback_urls has more than {MOST_CALLBACKS}")
        problems += [f"Default events unsupported: {each}" for each in _unsupported(manifest)]
        if problems:
            raise ManifestRefused("Invalid GitHub App configuration: " + "; ".join(problems))


def _unsupported(manifest: Manifest) -> list[str]:
    """Return the events that nobody can subscribe to: unknown, sent anyway, or without the permission for them."""
    granted: Mapping[str, str] = manifest.default_permissions
    return [
        each
        for each in manifest.default_events
        if each not in EVENTS or each in ALWAYS or NEEDS.get(each, "metadata") not in granted
    ]
