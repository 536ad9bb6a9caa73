"""The floor: handlers of the same frameworks that do nothing.  ``python -m tests.load.gateway.floor``.

An answer of the same size as the gateway's, alone (``/floor``) and with the one thing that a
gateway cannot leave out, the same generation asked of the same generator (``/hop``).  The
first line of output has both addresses; it serves until its standard input closes.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from trivium.generator.v1 import generator_pb2

SERVICE = "floor"
_BODY = b"x" * 900


def application(channel: grpc.aio.Channel) -> Starlette:
    """Both routes."""
    generate: Any = channel.unary_stream("/trivium.generator.v1.GeneratorService/Generate")
    asked = generator_pb2.GenerateRequest(text="p")
    asked.sampling.max_tokens = 1
    packed = asked.SerializeToString()
    app = Starlette()

    async def floor(request: Request) -> Response:
        await request.body()
        return Response(_BODY, media_type="application/json")

    async def hop(request: Request) -> Response:
        await request.body()
        async for _ in generate(packed):
            pass
        return Response(_BODY, media_type="application/json")

    app.add_route("/floor", floor, methods=["POST"])
    app.add_route("/hop", hop, methods=["POST"])
    return app


async def _chat(_: bytes, __: Any) -> AsyncIterator[bytes]:
    yield b"x" * 16
    yield b"x" * 400


async def serve(generator: str) -> None:
    """Serve until standard input closes."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: Any = grpc.unary_stream_rpc_method_handler(_chat)
    service = "trivium.gateway.v1.GatewayService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Chat": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(generator) as channel:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(application(channel), log_config=None, access_log=False, lifespan="off")
        http = uvicorn.Server(config)
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        sys.stdout.write(f"127.0.0.1:{port} http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        http.should_exit = True
        await serving
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
