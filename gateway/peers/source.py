"""A call whose requests are read from somebody else while they are sent.

grpc cancels a call whose requests fail, and does not say why.  Invariant: what a source ends in instead of its end is what
its call fails with; that a caller left is told by nothing but the caller.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from trivium.common.v1 import transfer_pb2

from services.chassis.errors import Failure


class Source:
    """Bytes that are passed on, once."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self._broken: Failure | None = None

    async def chunks(self) -> AsyncIterator[transfer_pb2.Chunk]:
        """The bytes, each piece with its place."""
        offset = 0
        try:
            async for piece in self._content:
                yield transfer_pb2.Chunk(offset_bytes=offset, data=piece)
                offset += len(piece)
        except Failure as failure:
            self._broken = failure
            raise

    @contextmanager
    def told(self) -> Iterator[None]:
        """Around the call: it fails with what the source did, where that ended it."""
        try:
            yield
        except asyncio.CancelledError:
            if self._broken is not None:
                raise self._broken from None
            raise
