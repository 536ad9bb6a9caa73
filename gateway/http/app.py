"""The routes of the HTTP skin.  Each hands its bytes to the layers; none decides anything."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.http import batches, chat, completions, embeddings, errors, files, fine_tuning, models, openapi, replays
from gateway.http.admission import HEALTH, Admission
from gateway.http.requests import is_uuid
from gateway.http.responses import routes as responses
from gateway.http.routes import Route
from gateway.http.transport import Asked, Door, body_stream
from gateway.http.vector_stores import routes as vector_stores
from gateway.servicers import Servicers
from services.chassis import permissions
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.runtime import Runtime

# Of the HTTP API, which is OpenAI's first.
_VERSION = "1"
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


def create_app(runtime: Runtime, servicers: Servicers) -> FastAPI:
    """The application.  FastAPI's own document is off: it sees no models; ``openapi`` makes ours."""
    app = FastAPI(title="Trivium", docs_url=None, redoc_url=None, openapi_url=None)
    # As many again as there may be calls: requests whose bodies are still to come.
    app.add_middleware(Admission, limit=2 * runtime.settings.max_calls, new_id=runtime.new_id)
    dispatcher = Dispatcher(runtime.layers.ordered)

    for route in ROUTES:
        app.add_route(route.path, _endpoint(route, servicers, dispatcher, runtime), methods=[route.verb])

    described = json.dumps(openapi.document(ROUTES, _VERSION), ensure_ascii=False).encode()

    async def _document(_: Request) -> Response:
        return Response(described, headers={"x-request-id": runtime.new_id()}, media_type="application/json")

    for path in openapi.PATHS:
        app.add_route(path, _document, methods=["GET"])

    @app.get(HEALTH)
    async def _health() -> Response:
        serving = runtime.health.serving
        body = {"status": "serving" if serving else "not serving", "reason": runtime.health.reason}
        return JSONResponse(body, status_code=200 if serving else 503)

    @app.exception_handler(HTTPException)
    async def _unknown(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        answer = errors.of_http(error.status_code, message, runtime.new_id())
        headers = {**answer.headers, **(error.headers or {})}
        return Response(answer.body, answer.status, headers, media_type="application/json")

    return app


def known_parameters(route: Route) -> frozenset[str] | None:
    """The parameters of the route's query as its row describes them; None where the exchange itself refuses others."""
    if route.query is None:
        return None
    return frozenset(shown.alias or name for name, shown in route.query.model_fields.items())


def _endpoint(
    route: Route, servicers: Servicers, dispatcher: Dispatcher, runtime: Runtime
) -> Callable[[Request], Awaitable[Response]]:
    permission = None if route.rpc is None else permissions.of_method(route.rpc)
    known = known_parameters(route)
    door = Door(
        route.path,
        lambda request_id: route.exchange(servicers, request_id),
        dispatcher,
        {},
        route.media_type,
        route.headers,
        permission,
        known,
    )
    limit = runtime.settings.max_message_bytes

    async def answer(request: Request) -> Response:
        name = request.headers.get(OWN_ID) or runtime.new_id()
        if not is_uuid(name):
            raise HTTPException(400, f"{OWN_ID} must be a UUID")
        if route.streamed:
            into, stream = body_stream()
            kind = request.headers.get("content-type", "")
            asked = Asked(b"", request.path_params, request.query_params, stream, kind)
            return door.response(name, request.headers, asked, into)
        asked = Asked(await _body(request, limit), request.path_params, request.query_params)
        return door.response(name, request.headers, asked)

    return answer


# Under which id a request is kept, where its caller names one: who asks again under it is recorded once.
OWN_ID = "x-trivium-request-id"
# A caller that stalls in its body holds memory before anybody knows who it is.
_BODY_SECONDS = 30


async def _body(request: Request, limit: int) -> bytes:
    """The body, read no further than the limit that gRPC messages have too."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise HTTPException(413, f"the body is over {limit} bytes")
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_BODY_SECONDS} s") from None
    return b"".join(parts)
