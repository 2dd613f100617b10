"""Templates of HTML. What is put into one is escaped, so that a hostile text shows as text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from stackit.html.filters import ago, clock, duration, number, tone, visible, words


class Template:
    """One template, from its source. ``ui`` in it has the shared macros: badges, times, tables, buttons."""

    def __init__(self, source: str) -> None:
        """Raises jinja2.TemplateSyntaxError."""
        self._template = _environment(None, "").from_string(source)

    def render(self, **values: Any) -> Markup:
        """Return the HTML. Raises jinja2.UndefinedError for a name that has no value."""
        return Markup(self._template.render(values))  # noqa: S704 - the environment escapes


class Templates:
    """The templates in a folder of a package, which see each other and the shared ``ui``."""

    def __init__(self, package: str, folder: str = "templates") -> None:
        """``package`` is a dotted name, such as ``__package__``. Raises ValueError where the folder is not there."""
        self._environment = _environment(package, folder)

    def render(self, name: str, **values: Any) -> Markup:
        """Return the HTML of one template. Raises what jinja2 raises for one that is missing or wrong."""
        return Markup(self._environment.get_template(name).render(values))  # noqa: S704 - the environment escapes


@cache
def _environment(package: str | None, folder: str) -> Environment:
    """Return the environment of a package's templates, or that of templates from their source alone."""
    shared = PrefixLoader({"stackit": PackageLoader("stackit.html", "shared")})
    loaders: list[BaseLoader] = [shared] if package is None else [shared, PackageLoader(package, folder)]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters = {
        "ago": ago,
        "clock": clock,
        "duration": duration,
        "number": number,
        "query": query,
        "segment": segment,
        "tone": tone,
        "words": words,
    }
    environment.filters.update(filters)
    environment.globals["ui"] = environment.get_template("stackit/macros.html").module
    return environment


def query(values: Mapping[str, Any], **more: Any) -> str:
    """Return the query of a link, with its ``?``; "" for none. What is None or "" is left out."""
    given = {name: str(value) for name, value in {**values, **more}.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(str(text), safe="")
