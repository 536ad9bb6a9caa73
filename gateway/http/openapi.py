"""The document that describes what the HTTP transport serves, made of its routes and of the models that parse their requests.

Invariant: there is no second list.  A route that is served is in the document; what it takes and gives are the models
that stand in its row, and what may go wrong is what ``errors`` makes of the catalogue.
"""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.http import headers
from gateway.http.answers import Error
from gateway.http.routes import Route

VERSION = "3.1.0"
PATHS = ("/openapi.json", "/v1/openapi.json")
_REF = "#/components/schemas/{model}"


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document as JSON would hold it."""
    routes = list(routes)
    schemas = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_path(route), {})[route.verb.lower()] = _operation(route, schemas)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Trivium",
            "version": version,
            "summary": "Base models, adapters and sources behind the shapes that OpenAI's clients speak.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": headers.of_refusals(_content("application/json", "Error")),
            "schemas": {name: schema for name, schema in schemas.items() if "$" not in name},
        },
    }


def _schemas(routes: list[Route]) -> dict[str, Any]:
    """Every model's schema by its name in the document, and under ``$CLASS`` where to find it."""
    bodies = {route.body for route in routes if route.body is not None and not route.streamed}
    named = [it for route in routes for it in (route.body, route.query, route.answer, route.events, route.broken)]
    # As it is read, in both directions: a field with a default may be left out.
    wanted: list[Any] = [(model, "validation") for model in dict.fromkeys([Error, *named]) if model is not None]
    references, defined = models_json_schema(wanted, ref_template=_REF)
    schemas: dict[str, Any] = dict(defined.get("$defs", {}))
    for (model, _), reference in references.items():
        schemas[_key(model)] = reference
        if model in bodies:
            name = reference["$ref"].rpartition("/")[2]
            schemas[name] = _as_it_is_taken(schemas[name], model)
    return schemas


def _key(model: type) -> str:
    return f"${model.__module__}.{model.__qualname__}"


def _as_it_is_taken(schema: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The schema with what asks for nothing: a null of what need not be there, and values that are let pass."""
    needed = set(schema.get("required", ()))
    properties = {
        name: known if name in needed else {"anyOf": [known, {"type": "null"}]}
        for name, known in schema.get("properties", {}).items()
    }
    for name, values in getattr(model, "idle", {}).items():
        properties.setdefault(name, {"enum": [None, *values]})
    return {**schema, "properties": properties}


def _path(route: Route) -> str:
    return route.path.replace(":path}", "}")


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "responses": {"200": _answered(route, schemas), **_refusals(route)},
    }
    parameters = [
        {"name": name.partition(":")[0], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{([^}]+)}", route.path)
    ]
    if route.query is not None:
        parameters += _query(schemas[_reference(route.query, schemas)])
    if parameters:
        told["parameters"] = parameters
    if route.body is not None:
        kind = "multipart/form-data" if route.streamed else "application/json"
        schema = {"$ref": _REF.format(model=_reference(route.body, schemas))}
        told["requestBody"] = {"required": bool(route.body.model_fields), "content": {kind: {"schema": schema}}}
    return told


def _identifier(route: Route) -> str:
    parts = [part for part in re.split(r"[/{}:_.-]+", route.path.removeprefix("/v1")) if part not in ("", "path")]
    return route.verb.lower() + "".join(part.capitalize() for part in parts)


def _reference(model: type[BaseModel], schemas: dict[str, Any]) -> str:
    reference: dict[str, str] = schemas[_key(model)]
    return reference["$ref"].rpartition("/")[2]


def _query(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Each parameter by itself."""
    needed = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": known}
        for name, known in schema.get("properties", {}).items()
    ]


def _answered(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {route.media_type: {}}
    if route.answer is not None:
        content = _content(route.media_type, _reference(route.answer, schemas))
    if route.events is not None:
        events = [_reference(model, schemas) for model in (route.events, route.broken)]
        content["text/event-stream"] = {"schema": _event(route.last_data, events)}
    told = headers.of_answer(limited=route.limited, streams=route.events is not None, own=route.headers)
    return {"description": "Done.", "headers": told, "content": content}


def _content(media_type: str, model: str) -> dict[str, Any]:
    return {media_type: {"schema": {"$ref": _REF.format(model=model)}}}


def _event(last: str, models: list[str]) -> dict[str, Any]:
    """One event of a stream; a failure after the first is an event too, and the last one."""
    told = [{"$ref": _REF.format(model=name)} for name in models]
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": told},
    }
    return {
        "type": "object",
        "properties": {"event": {"type": "string"}, "data": {"anyOf": [{"const": last}, data]} if last else data},
        "required": ["data"],
    }


def _refusals(route: Route) -> dict[str, Any]:
    named = headers.refusals(limited=route.limited)
    return {number: {"$ref": f"#/components/responses/{name}"} for number, name in named.items()}
