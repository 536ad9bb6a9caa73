"""The routes of the HTTP skin.  Each hands its bytes to the layers; none decides anything."""

import asyncio
from collections.abc import Callable

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.http import errors
from gateway.http.admission import HEALTH, Admission
from gateway.http.chat import ChatExchange
from gateway.http.completions import CompletionExchange
from gateway.http.models import ModelExchange, ModelsExchange, ReceiptExchange
from gateway.http.transport import Door, Exchange
from gateway.servicer import GatewayServicer
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.runtime import Runtime

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MODELS = "/v1/models"
RECEIPTS = "/v1/trivium/receipts"


def create_app(runtime: Runtime, servicer: GatewayServicer) -> FastAPI:
    """The application.  Its documentation pages are off: OpenAI's own reference describes it."""
    app = FastAPI(title="Trivium", docs_url=None, redoc_url=None, openapi_url=None)
    # As many again as there may be calls: requests whose bodies are still to come.
    app.add_middleware(Admission, limit=2 * runtime.settings.max_calls, new_id=runtime.new_id)
    dispatcher = Dispatcher(runtime.layers.ordered)
    limit = runtime.settings.max_message_bytes

    def door(path: str, exchange: Callable[[GatewayServicer, str], Exchange]) -> Door:
        return Door(path, lambda request_id: exchange(servicer, request_id), dispatcher, {})

    chat, completions = door(CHAT, ChatExchange), door(COMPLETIONS, CompletionExchange)
    models, model, receipt = (
        door(MODELS, ModelsExchange),
        door(MODELS + "/{name}", ModelExchange),
        door(RECEIPTS, ReceiptExchange),
    )

    @app.post(CHAT)
    async def _chat(request: Request) -> Response:
        return chat.response(runtime.new_id(), request.headers, await _body(request, limit))

    @app.post(COMPLETIONS)
    async def _completions(request: Request) -> Response:
        return completions.response(runtime.new_id(), request.headers, await _body(request, limit))

    @app.get(MODELS)
    async def _models(request: Request) -> Response:
        return models.response(runtime.new_id(), request.headers, b"")

    @app.get(MODELS + "/{name:path}")
    async def _model(request: Request, name: str) -> Response:
        return model.response(runtime.new_id(), request.headers, name.encode())

    @app.get(RECEIPTS + "/{request_id}")
    async def _receipt(request: Request, request_id: str) -> Response:
        return receipt.response(runtime.new_id(), request.headers, request_id.encode())

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
