"""A generator without an engine: ``python -m tests.simulated_generator --token-ms 20``.

A real gRPC server that speaks ``trivium.generator.v1``: as many tokens as were asked for and its context holds, at a
steady pace or all at once, so that what is measured or killed in front of it is the gateway.  Of functions it calls the
one that it must, or one whose name the user says, with the first of the values that each argument may have; what it says
to what a function returned ends by itself, and where the user says "slowly" it takes its time.  The digests of its receipts follow from what was asked and said, as the real
one's do: an answer that is computed again has the same.
Its first line of output is its address; it serves until its standard input closes.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2 as pb

from tests import tied
from tests.adapters import BASE_DIGEST

SERVICE = "trivium.generator.v1.GeneratorService"
_PROMPT_TOKENS = 7
_CONTEXT_TOKENS = 8192
_ENGINE = pb.Engine(engine="simulated", state=pb.ENGINE_STATE_READY, base="base", context_tokens=_CONTEXT_TOKENS)
_TOKEN_ID = 17
_SLOW_TOKEN_SECONDS = 0.1
# Objects, then collections of the younger generation.
_COLLECTOR_THRESHOLDS = (100_000, 50, 100)
_DELTA = pb.GenerateResponse(delta=pb.Delta(text=" word", token_ids=[_TOKEN_ID])).SerializeToString()


def _receipt(tokens: int) -> receipt_pb2.Receipt:
    usage = receipt_pb2.Usage(prompt_tokens=_PROMPT_TOKENS, completion_tokens=tokens)
    return receipt_pb2.Receipt(engine_build="simulated", engine_slot=-1, usage=usage)


def _prompt_tokens(request: pb.GenerateRequest | pb.TokenizeRequest) -> Sequence[int]:
    """A prompt's token ids: seven that follow from it."""
    prompt = request.conversation.SerializeToString(deterministic=True) or request.text.encode()
    return struct.unpack_from(f"<{_PROMPT_TOKENS}H", hashlib.sha256(prompt).digest())


def _digest(token_ids: Sequence[int]) -> str:
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(token_ids)}i', *token_ids)).hexdigest()}"


def _final(tokens: int, reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_LENGTH) -> bytes:
    receipt = _receipt(tokens)
    receipt.completion_digest = _digest([_TOKEN_ID] * tokens)
    final = pb.Final(
        finish_reason=reason,
        usage=receipt.usage,
        receipt=receipt,
        choices=[chat_pb2.ChoiceEnd(finish_reason=reason, completion_tokens=tokens)],
    )
    return pb.GenerateResponse(final=final).SerializeToString()


def _opened(digest: str, version: str) -> bytes:
    """Of which prompt and weights it is, to stand behind the bytes of an opening: what follows is one message with them."""
    receipt = _made_by(digest, version)
    return pb.GenerateResponse(opening=pb.Opening(receipt=receipt)).SerializeToString()


def _completed(digest: str, version: str) -> bytes:
    """The same of its end, and when that was."""
    receipt = _made_by(digest, version)
    receipt.complete_time.FromMicroseconds(time.time_ns() // 1000)
    return pb.GenerateResponse(final=pb.Final(receipt=receipt)).SerializeToString()


def _made_by(digest: str, version: str) -> receipt_pb2.Receipt:
    """Of whatever version was asked for it says that it has it, and over the base that tests publish for."""
    base = BASE_DIGEST if version else ""
    return receipt_pb2.Receipt(prompt_tokens_digest=digest, version_digest=version, base_digest=base)


def _function(conversation: pb.Conversation) -> chat_pb2.Tool | None:
    """The one that is called; None where the answer is words."""
    use, last = conversation.tool_use, conversation.messages[-1]
    if use.choice == chat_pb2.TOOL_CHOICE_NAMED:
        return next((tool for tool in use.tools if tool.name == use.name), None)
    if use.choice == chat_pb2.TOOL_CHOICE_NONE or last.role != chat_pb2.CHAT_ROLE_USER:
        return None
    if use.choice == chat_pb2.TOOL_CHOICE_REQUIRED:
        return use.tools[0]
    return next((tool for tool in use.tools if tool.name in last.content), None)


def _call(function: chat_pb2.Tool) -> list[bytes]:
    """A call of it in two parts, each of one token."""
    first = chat_pb2.ToolCallDelta(id="call_simulated", name=function.name)
    rest = chat_pb2.ToolCallDelta(arguments=_arguments(function.parameters))
    deltas = [pb.Delta(tool_calls=[part], token_ids=[17]) for part in (first, rest)]
    return [pb.GenerateResponse(delta=delta).SerializeToString() for delta in deltas]


def _arguments(schema: str) -> str:
    """The first of the values that each may have, for those that have some to choose from."""
    known = json.loads(schema or "{}").get("properties")
    shapes = known if isinstance(known, dict) else {}
    values = {name: shape.get("enum") for name, shape in shapes.items() if isinstance(shape, dict)}
    return json.dumps({name: some[0] for name, some in values.items() if isinstance(some, list) and some})


def _slowly(conversation: pb.Conversation) -> bool:
    return bool(conversation.messages) and conversation.messages[-1].content.endswith("slowly")


def _ending(conversation: pb.Conversation) -> chat_pb2.FinishReason.ValueType:
    """Why words end."""
    answers = bool(conversation.tool_use.tools) and conversation.messages[-1].role == chat_pb2.CHAT_ROLE_TOOL
    return chat_pb2.FINISH_REASON_STOP if answers else chat_pb2.FINISH_REASON_LENGTH


_OPENING = pb.GenerateResponse(opening=pb.Opening(receipt=_receipt(0))).SerializeToString()


class Simulated:
    """Answers of so many tokens at so many seconds each; the bytes of an answer are made once."""

    def __init__(self, token_seconds: float) -> None:
        self._token_seconds = token_seconds
        self._finals: dict[tuple[int, int], bytes] = {}
        self._running = 0

    async def generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[bytes]:
        """The opening, tokens, the end."""
        digest = _digest(request.token_ids.ids or _prompt_tokens(request))
        yield _OPENING + _opened(digest, request.version)
        if request.conversation.tool_use.tools and (function := _function(request.conversation)) is not None:
            for part in (parts := _call(function)):
                yield part
            yield _final(len(parts), chat_pb2.FINISH_REASON_TOOL_CALLS) + _completed(digest, request.version)
            return
        reason = _ending(request.conversation)
        tokens = min(request.sampling.max_tokens or 1, _CONTEXT_TOKENS)
        token_seconds = _SLOW_TOKEN_SECONDS if _slowly(request.conversation) else self._token_seconds
        self._running += 1
        try:
            for _ in range(tokens):
                if token_seconds:
                    await asyncio.sleep(token_seconds)
                yield _DELTA
        finally:
            self._running -= 1
        if (tokens, reason) not in self._finals:
            self._finals[tokens, reason] = _final(tokens, reason)
        yield self._finals[tokens, reason] + _completed(digest, request.version)

    async def engines(self, request: pb.ListEnginesRequest, context: Any) -> pb.ListEnginesResponse:
        """The one, with how many answers it is in the words of."""
        listed = pb.ListEnginesResponse(engines=[_ENGINE])
        listed.engines[0].running = self._running
        return listed

    async def adapters(self, request: pb.ListAdaptersRequest, context: Any) -> pb.ListAdaptersResponse:
        """None."""
        return pb.ListAdaptersResponse()

    async def tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        """As many tokens as any prompt has."""
        return pb.TokenizeResponse(token_ids=_prompt_tokens(request), context_tokens=_CONTEXT_TOKENS)


def _unary(behaviour: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(behaviour, request.FromString, lambda answer: answer.SerializeToString())


async def serve(token_seconds: float) -> None:
    """Serve until standard input closes."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    simulated = Simulated(token_seconds)
    handlers: dict[str, Any] = {
        "Generate": grpc.unary_stream_rpc_method_handler(simulated.generate, pb.GenerateRequest.FromString),
        "ListEngines": _unary(simulated.engines, pb.ListEnginesRequest),
        "ListAdapters": _unary(simulated.adapters, pb.ListAdaptersRequest),
        "Tokenize": _unary(simulated.tokenize, pb.TokenizeRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def start(token_ms: float = 0.0) -> "tuple[subprocess.Popen[bytes], str]":
    """Start one as a process of its own; its address.  It ends with its caller."""
    command = [sys.executable, "-m", "tests.simulated_generator", "--token-ms", str(token_ms)]
    started = tied.start(
        command, cwd=Path(__file__).resolve().parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    return started, started.stdout.readline().decode().strip()


@contextmanager
def running() -> Iterator[str]:
    """One that serves inside the block, at the address that is yielded."""
    started, address = start()
    try:
        yield address
    finally:
        started.kill()
        started.wait()


def main() -> None:
    """Read the pace and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token-ms", type=float, default=0.0)
    # As it comes, with thousands of streams open, it would spend a third of a core in looking through what they hold, which
    # the gateway in front of it goes without.
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    uvloop.run(serve(parser.parse_args().token_ms / 1000))


if __name__ == "__main__":
    main()
