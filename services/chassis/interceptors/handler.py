"""The end of the chain: the servicer's function, in each of its four shapes."""

import asyncio
import inspect
from contextlib import aclosing

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call

# gRPC's own receive limit at the client: a larger message would surface there as a transport error.
MAX_RESPONSE_BYTES = 4 * 1024 * 1024


async def answer_once(call: Call) -> None:
    """Run a function that returns one response.  Raises RESPONSE_TOO_LARGE."""
    method = call.method
    call.answer = answer = await method.behaviour(call.request, call.rpc)
    response = method.serialize(answer)
    if len(response) > MAX_RESPONSE_BYTES:
        raise Failure(Reason.RESPONSE_TOO_LARGE, size_bytes=len(response), limit_bytes=MAX_RESPONSE_BYTES)
    call.response = response


async def answer_stream(call: Call) -> None:
    """Run a function that yields responses, writing each as it comes.  Raises RESPONSE_TOO_LARGE.

    The generator is closed at once when the call ends early: its ``finally`` blocks
    give back what they hold now, not when the garbage collector gets to them.
    """
    method, write, serialize = call.method, call.rpc.write, call.method.serialize
    responses = method.behaviour(call.request, call.rpc)
    if inspect.iscoroutine(responses):
        await responses
        return
    async with aclosing(responses):
        async for response in responses:
            call.answer = response
            body = serialize(response)
            if len(body) > MAX_RESPONSE_BYTES and method.over_grpc:
                raise Failure(Reason.RESPONSE_TOO_LARGE, size_bytes=len(body), limit_bytes=MAX_RESPONSE_BYTES)
            call.is_writing = True
            await write(body)
            call.is_writing = False
            if call.after_write is not None:
                call.after_write()
                # Where a cancellation of this task takes effect.
                await asyncio.sleep(0)
