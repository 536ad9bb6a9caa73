"""A generator without an engine: ``python -m tests.simulated_generator --token-ms 20``.

A real gRPC server that speaks ``trivium.generator.v1``: as many tokens as were asked for, at a
steady pace or all at once, so that what is measured or killed in front of it is the gateway.
Its first line of output is its address; it serves until its standard input closes.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2 as pb

SERVICE = "trivium.generator.v1.GeneratorService"
_PROMPT_TOKENS = 7
_DELTA = pb.GenerateResponse(delta=pb.Delta(text=" word", token_ids=[17])).SerializeToString()


def _receipt(tokens: int) -> receipt_pb2.Receipt:
    usage = receipt_pb2.Usage(prompt_tokens=_PROMPT_TOKENS, completion_tokens=tokens)
    return receipt_pb2.Receipt(engine_build="simulated", engine_slot=-1, usage=usage)


def _final(tokens: int) -> bytes:
    final = pb.Final(
        finish_reason=chat_pb2.FINISH_REASON_LENGTH,
        usage=_receipt(tokens).usage,
        receipt=_receipt(tokens),
        choices=[chat_pb2.ChoiceEnd(finish_reason=chat_pb2.FINISH_REASON_LENGTH, completion_tokens=tokens)],
    )
    return pb.GenerateResponse(final=final).SerializeToString()


_OPENING = pb.GenerateResponse(opening=pb.Opening(receipt=_receipt(0))).SerializeToString()


class Simulated:
    """Answers of so many tokens at so many seconds each; the bytes of an answer are made once."""

    def __init__(self, token_seconds: float) -> None:
        self._token_seconds = token_seconds
        self._finals: dict[int, bytes] = {}

    async def generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[bytes]:
        """The opening, tokens, the end."""
        tokens = request.sampling.max_tokens or 1
        yield _OPENING
        for _ in range(tokens):
            if self._token_seconds:
                await asyncio.sleep(self._token_seconds)
            yield _DELTA
        if tokens not in self._finals:
            self._finals[tokens] = _final(tokens)
        yield self._finals[tokens]


async def serve(token_seconds: float) -> None:
    """Serve until standard input closes."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: Any = grpc.unary_stream_rpc_method_handler(
        Simulated(token_seconds).generate, request_deserializer=pb.GenerateRequest.FromString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def main() -> None:
    """Read the pace and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token-ms", type=float, default=0.0)
    uvloop.run(serve(parser.parse_args().token_ms / 1000))


if __name__ == "__main__":
    main()
