"""The routes of the HTTP transport.  Each hands its head to the layers, which ask for its body; none decides anything."""

import json
from typing import Any, cast

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from gateway.http import batches, chat, completions, embeddings, errors, files, fine_tuning, models, openapi, replays
from gateway.http.elsewhere import instead
from gateway.http.queries import LIST
from gateway.http.requests import is_uuid
from gateway.http.responses import routes as responses
from gateway.http.routes import Route
from gateway.http.transport import Asked, Door
from gateway.http.vector_stores import routes as vector_stores
from gateway.servicers import Servicers, policy_of
from services.chassis import permissions
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.runtime import Runtime

# Of the HTTP API, which is OpenAI's first.
_VERSION = "1"
_HEALTH = "/healthz"
# By noun.  Of two routes that fit a path the first is taken.
ROUTES: tuple[Route, ...] = (
    *chat.ROUTES,
    *completions.ROUTES,
    *embeddings.ROUTES,
    *models.ROUTES,
    *files.ROUTES,
    *batches.ROUTES,
    *vector_stores.ROUTES,
    *fine_tuning.ROUTES,
    *responses.ROUTES,
    *replays.ROUTES,
)


def create_app(runtime: Runtime, servicers: Servicers) -> Starlette:
    """The application; ``openapi`` makes the document that describes it."""
    app = Starlette()
    dispatcher = Dispatcher(runtime.layers.ordered)

    for route in ROUTES:
        app.add_route(route.path, cast("Any", Endpoint(route, servicers, dispatcher, runtime)), methods=[route.verb])

    described = json.dumps(openapi.document(ROUTES, _VERSION), ensure_ascii=False).encode()

    async def _document(_: Request) -> Response:
        return Response(described, headers={"x-request-id": runtime.new_id()}, media_type="application/json")

    for path in openapi.PATHS:
        app.add_route(path, _document, methods=["GET"])

    async def _health(_: Request) -> Response:
        serving = runtime.health.serving
        body = {"status": "serving" if serving else "not serving", "reason": runtime.health.reason}
        return JSONResponse(body, status_code=200 if serving else 503)

    app.add_route(_HEALTH, _health, methods=["GET"])

    async def _unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if error.status_code == 405:
            headers["allow"] = ", ".join(_verbs(app, request))
            message += f"; this path takes {headers['allow']}"
        if error.status_code in (404, 405):
            message += f". Instead: {instead(request.url.path)}."
        answer = errors.of_http(error.status_code, message, runtime.new_id())
        headers = {**answer.headers, **headers}
        return Response(answer.body, answer.status, headers, media_type="application/json")

    app.add_exception_handler(HTTPException, _unknown)
    return app


def _verbs(app: Starlette, request: Request) -> list[str]:
    """Every verb that the path takes, of whatever route: the framework would tell those of the first one alone."""
    fitting = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({verb for route in fitting for verb in getattr(route, "methods", None) or ()})


def known_parameters(route: Route) -> frozenset[str] | None:
    """The parameters of the route's query as its row describes them; None where the exchange itself refuses others."""
    if route.query is None:
        return None
    return frozenset(shown.alias or name for name, shown in route.query.model_fields.items())


def is_bodiless(route: Route) -> bool:
    """Whether nothing can be said in the body."""
    return not route.streamed and (route.body is None or not route.body.model_fields)


class Endpoint:
    """One route as ASGI serves it: what Starlette would wrap around a function costs a fifth of a small answer."""

    def __init__(self, route: Route, servicers: Servicers, dispatcher: Dispatcher, runtime: Runtime) -> None:
        self._new_id = runtime.new_id
        self._door = Door(
            route.path,
            lambda request_id: route.exchange(servicers, request_id),
            dispatcher,
            media_type=route.media_type,
            headers=route.headers,
            streamed=route.streamed,
            streams=route.rpc.client_streaming or route.rpc.server_streaming,
            policy=policy_of(route.rpc),
            permission=permissions.of_method(route.rpc) if route.streamed else None,
            query=known_parameters(route),
            bodiless=is_bodiless(route),
            limit_bytes=runtime.settings.max_message_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.  Raises HTTPException for one that never becomes a call."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = headers.get(OWN_ID)
        if request_id is None:
            request_id = self._new_id()
        elif not is_uuid(request_id):
            raise HTTPException(400, f"{OWN_ID} must be a UUID")
        query = _query(scope["query_string"]) if scope["query_string"] else {}
        asked = Asked(b"", scope["path_params"], query, content_type=headers.get("content-type", ""))
        await self._door.serve(request_id, headers, asked, scope.setdefault("state", {}), receive, send)


def _query(raw: bytes) -> QueryParams:
    """The query.  Raises HTTPException for a parameter that says two things, of which one could be heeded, but for lists."""
    said = QueryParams(raw)
    for name, value in said.multi_items():
        if said[name] != value and not name.endswith(LIST):
            raise HTTPException(400, f"{name[:64]} stands in the query more than once, with different values")
    return said


# Under which id a request is kept, where its caller names one; what else is made under it is recorded beside it.
OWN_ID = errors.OWN_ID
