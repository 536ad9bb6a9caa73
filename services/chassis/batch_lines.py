"""The lines of a batch's input and the ids of their requests: what runs a batch and what finds one of its requests again agree.

Invariant: a line means the same whenever it is read, and is known by its number; the batch and that determine the id
under which it is asked, however often.
"""

import uuid
from collections.abc import AsyncIterable, AsyncIterator

# What the gateway takes of one body.
MOST_LINE_BYTES = 4 * 1024**2
_IDS = uuid.UUID("6d0f7a60-6f0a-4f3e-9d0c-1b8f4f4c7a51")
# Of ids that are made of a name by SHA-1.
_VERSION = 5


def request_id(tenant: str, batch: str, line: int) -> str:
    """The id under which a line of a tenant's batch is asked."""
    return str(uuid.uuid5(_IDS, f"{tenant}/{batch}/{line}"))


def may_be_of_a_line(request_id: str) -> bool:
    """Whether a line could have been asked under an id: the gateway draws its own by time, and clients mostly by chance."""
    try:
        return uuid.UUID(request_id).version == _VERSION
    except ValueError:
        return False


async def lines(content: AsyncIterable[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers from 1; of one that is too long a byte more than may be."""
    number, waiting = 1, bytearray()
    async for piece in content:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            waiting.extend(part)
            if waiting.strip():
                yield number, bytes(waiting[: MOST_LINE_BYTES + 1])
            number += 1
            waiting.clear()
        waiting.extend(rest)
        # Nobody's memory is filled by a file without an end of line.
        del waiting[MOST_LINE_BYTES + 1 :]
    if waiting.strip():
        yield number, bytes(waiting)
