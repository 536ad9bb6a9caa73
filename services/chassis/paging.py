"""Opaque page tokens: where a list goes on, bound to the list that they came from.

Invariant: a token works for the tenant, the method and the filters that it was made
for, and for nothing else; a position is always applied inside the caller's tenant,
so a forged one shows nothing that the caller could not list.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from services.chassis.context import current
from services.chassis.errors import Failure, Reason

DEFAULT_SIZE = 100
# Of 4 MiB, which callers take of one message; what stands beside the entries is small.
PAGE_BYTES = 3 * 1024 * 1024

M = TypeVar("M", bound=Message)

Position = Sequence[str | int]


def size_of(page_size: int) -> int:
    """The number of entries to return for a ``page_size`` of a request, where 0 takes the default."""
    return page_size or DEFAULT_SIZE


def encode(position: Position, *filters: str) -> str:
    """The token for the page behind ``position``, for the call being served."""
    body = json.dumps([_binding(filters), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode(token: str, shape: Sequence[type], *filters: str) -> Position | None:
    """The position in a token, whose parts have the types of ``shape``; None for an empty token.

    Raises PAGE_TOKEN_INVALID for a token of another list, tenant or filter, or of no list at all.
    """
    if not token:
        return None
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        body = None
    if not isinstance(body, list) or [type(part) for part in body] != [str, *shape] or body[0] != _binding(filters):
        raise Failure(Reason.PAGE_TOKEN_INVALID, field="page_token")
    position: Position = body[1:]
    return position


def fitting(entries: Sequence[M]) -> Sequence[M]:
    """The first of a page's entries that go into one answer together, at least one: a page may hold fewer than asked."""
    left = PAGE_BYTES
    for count, entry in enumerate(entries):
        left -= entry.ByteSize()
        if left < 0 and count:
            return entries[:count]
    return entries


def number(token: str, *filters: str) -> int | None:
    """The position of a list that is ordered by one number; None for an empty token."""
    position = decode(token, [int], *filters)
    return None if position is None else int(position[0])


def _binding(filters: Sequence[str]) -> str:
    asking = current()
    subject = json.dumps([asking.tenant_id, asking.method, *filters])
    return hashlib.sha256(subject.encode()).hexdigest()[:16]
