"""Streams whose answers come in the order of the requests, though several are worked on at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def in_order(
    requests: AsyncIterable[Request], answer: Callable[[Request], Awaitable[Answer]], ahead: int
) -> AsyncIterator[Answer]:
    """Yield ``await answer(request)`` for each request, at most ``ahead`` of them begun and not yet yielded.

    The first failure ends the stream; whatever was begun after it is cancelled.
    """
    begun: deque[asyncio.Task[Answer]] = deque()
    source = aiter(requests)
    upcoming: asyncio.Task[Request] | None = asyncio.ensure_future(_next(source))
    try:
        while upcoming is not None or begun:
            waits: list[asyncio.Task[Request] | asyncio.Task[Answer]] = [begun[0]] if begun else []
            if upcoming is not None and len(begun) < ahead:
                waits.append(upcoming)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if begun and begun[0].done():
                yield begun.popleft().result()
            elif upcoming is not None and upcoming.done():
                upcoming = _begin(upcoming, source, answer, begun)
    finally:
        for task in [*begun, *([upcoming] if upcoming is not None else [])]:
            task.cancel()


class _End(Exception):
    """The source has no more; StopAsyncIteration itself cannot leave a task."""


async def _next(source: AsyncIterator[Request]) -> Request:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _End from None


def _begin(
    arrived: asyncio.Task[Request],
    source: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Answer]],
    begun: deque[asyncio.Task[Answer]],
) -> asyncio.Task[Request] | None:
    """Start on the request that arrived and ask for the next; None when there is none."""
    try:
        request = arrived.result()
    except _End:
        return None
    begun.append(asyncio.ensure_future(_run(answer, request)))
    return asyncio.ensure_future(_next(source))


async def _run(answer: Callable[[Request], Awaitable[Answer]], request: Request) -> Answer:
    return await answer(request)
