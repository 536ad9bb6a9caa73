"""Trivium's Python SDK: `Trivium` for ordinary code, `AsyncTrivium` for asyncio; both read the environment.

Only what is named here is public; no protobuf type appears in any signature.
"""

from trivium_client.asynchronous import AsyncTrivium
from trivium_client.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    NotYetAvailableError,
    OverloadedError,
    PermissionDeniedError,
    PreconditionError,
    RequestTimeoutError,
    ServerError,
    TriviumError,
    UnavailableError,
)
from trivium_client.filters import Field, Filter, field
from trivium_client.synchronous import Trivium

__all__ = [
    "AsyncTrivium",
    "AuthenticationError",
    "ConflictError",
    "Field",
    "Filter",
    "InvalidRequestError",
    "NotFoundError",
    "NotYetAvailableError",
    "OverloadedError",
    "PermissionDeniedError",
    "PreconditionError",
    "RequestTimeoutError",
    "ServerError",
    "Trivium",
    "TriviumError",
    "UnavailableError",
    "field",
]
