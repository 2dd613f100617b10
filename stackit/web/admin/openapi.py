"""``GET {prefix}/openapi.json``: the routes of the admin side as OpenAPI 3.1 describes them, made from the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.schema import ErrorAnswer, Parameter
from stackit.api.version import VERSION
from stackit.web.admin.router import SAFE_METHODS, invalid
from stackit.web.prefixes import expand

_REF = "#/components/schemas/{name}"
_ARGUMENT = re.compile(r"\{([a-z_]+)\}")
_JSON = "application/json"
_CSRF = {
    "name": "X-Stackit-CSRF",
    "in": "header",
    "required": True,
    "description": "The proof that no page of another site asks.",
    "schema": {"const": "1"},
}
_SECURITY = {
    "token": {"type": "http", "scheme": "bearer", "description": "A bearer token, where one is configured."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-stackit",
        "description": "The session of a person who is logged in.",
    },
}
_ALWAYS = {
    400: "A parameter or the body makes no sense; the error says which.",
    401: "A bearer token is needed.",
    429: "Too many refused requests came from this address.",
    421: "The host is not one that the admin side answers to.",
    500: "A defect: the log says which.",
    503: "Not now, and soon again: too many requests wait, or the journal cannot be read or written.",
}
_UNSAFE = {
    403: "The proof that no page of another site asks is missing.",
    405: "stackit is read-only.",
    413: "The body is over 64 KiB.",
}


def openapi_route(routes: Iterable[Route], prefixes: Sequence[str]) -> Route:
    """Return the route that describes these routes and itself. Raises StackitError for types without a schema."""

    def show(request: AdminRequest) -> Response:
        prefix = request.path.removesuffix("/openapi.json")
        return Response(body=described[prefix])

    own = Route(
        "GET",
        "{prefix}/openapi.json",
        show,
        query=(),
        summary="Describe the routes of the admin side, as OpenAPI 3.1.",
        returns=dict[str, Any],
    )
    of_clients = [each for each in [*routes, own] if is_described(each)]
    schemas = Schemas(of_clients)
    described = {prefix: msgspec.json.encode(describe(of_clients, prefix, schemas)) for prefix in prefixes}
    return own


def is_described(route: Route) -> bool:
    """Return whether a route is for clients: below an API prefix, or with the type of its answer. Others are pages."""
    return isinstance(route.path, str) and (route.path.startswith("{prefix}/") or route.returns is not None)


class Schemas:
    """The JSON schemas of the types that routes name."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Raises StackitError for a type that has none."""
        types = [ErrorAnswer]
        for route in routes:
            _check(route)
            own = _types(route)
            try:
                msgspec.json.schema_components(own)
            except (TypeError, NameError) as problem:
                reason = str(problem).rpartition("\n")[2]
                raise invalid(route, f"a type that describes it has no schema: {reason}") from None
            types += own
        self._schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._types = types

    def of(self, kind: Any) -> Mapping[str, Any]:
        """Return the schema of a type that a route names."""
        return next(schema for each, schema in zip(self._types, self._schemas, strict=True) if each is kind)


def _check(route: Route) -> None:
    """Raise StackitError for a route whose description is none."""
    texts = [route.summary, route.content_type]
    for each in route.parameters:
        texts += [each.name, each.summary]
    if not all(isinstance(each, str) for each in texts):
        raise invalid(route, "its summary, its content type, and the names and summaries of parameters must be text")
    statuses = {each.value for each in HTTPStatus}
    if not isinstance(route.errors, Mapping) or not {route.status, *route.errors} <= statuses:
        raise invalid(route, "its status, and the keys of its errors, must be statuses of HTTP")


def _types(route: Route) -> list[Any]:
    named = [route.body, route.returns, *(each for each in route.errors.values() if not isinstance(each, str))]
    return [each for each in named if each is not None] + [each.type for each in route.parameters]


def describe(routes: Iterable[Route], prefix: str, schemas: Schemas) -> dict[str, Any]:
    """Return the description of the routes, with the paths below one of the API prefixes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        (path,) = expand(route.path, [prefix])
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stackit, the admin side",
            "version": VERSION,
            "description": "What the shell commands and the pages ask of the running stackit.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.components, "securitySchemes": _SECURITY},
        "security": [{}, *({name: []} for name in _SECURITY)],
    }


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    names = _ARGUMENT.findall(route.path.removeprefix("{prefix}"))
    inputs: list[Mapping[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    inputs += [_parameter(each, schemas) for each in route.parameters]
    if route.method not in SAFE_METHODS:
        inputs.append(_CSRF)
    words = re.findall(r"[a-z0-9]+", route.path.removeprefix("{prefix}").lower())
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": route.summary or f"{route.method} {route.path}",
        "tags": [route.plugin or words[0]],
        "x-role": route.role or ("viewer" if route.method in SAFE_METHODS else "operator"),
        "parameters": inputs,
        "responses": _responses(route, schemas),
    }
    if route.node != "any":
        operation["x-node"] = route.node
    if route.open:
        operation["security"] = [{}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schemas.of(route.body)}}}
    return operation


def _parameter(parameter: Parameter, schemas: Schemas) -> Mapping[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.summary,
        "schema": schemas.of(parameter.type),
    }


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    refusals: dict[int, Any] = {**_ALWAYS, **({} if route.method in SAFE_METHODS else _UNSAFE), **route.errors}
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.returns is not None:
        good["content"] = {route.content_type: {"schema": schemas.of(route.returns)}}
    return {
        str(route.status): good,
        **{str(status): _refusal(refusals[status], schemas) for status in sorted(refusals)},
    }


def _refusal(meaning: Any, schemas: Schemas) -> Mapping[str, Any]:
    """Return the response of a refusal: its meaning as text, or the type of its answer, whose docstring has it."""
    if isinstance(meaning, str):
        return {"description": meaning, "content": {_JSON: {"schema": schemas.of(ErrorAnswer)}}}
    summary = (getattr(meaning, "__doc__", None) or "Refused.").partition("\n")[0]
    return {"description": summary, "content": {_JSON: {"schema": schemas.of(meaning)}}}
