"""The rest of an order, kept in the token that asks for it.

Invariant: pages are of one order, whatever is written meanwhile; a token works for who
made it, with the same request, until it expires, and was signed by this catalog.  The
service keeps nothing, so any replica gives the next page.
"""

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from services.chassis.errors import Failure, Reason
from services.retriever.search.question import Ranked

_SIGNATURE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Pages:
    """Makes and reads tokens.  ``key`` is the catalog's own secret, ``now`` gives Unix time in seconds."""

    key: bytes
    now: Callable[[], float]
    kept_seconds: float

    def token(self, rest: Sequence[Ranked], asked: str) -> str:
        """The token for these places; ``asked`` is who asks for what.  Empty when nothing is left."""
        if not rest:
            return ""
        return self._sealed(self.now() + self.kept_seconds, rest, asked)

    def renewed(self, rest: Sequence[Ranked], asked: str, token: str) -> str:
        """The token for what is left of those of another one: it expires with that one."""
        return self._sealed(self._opened(token, asked)[0], rest, asked) if rest else ""

    def rest(self, token: str, asked: str) -> list[Ranked]:
        """The places of a token.  Raises PAGE_TOKEN_INVALID and SEARCH_PAGES_EXPIRED."""
        expires, places = self._opened(token, asked)
        if self.now() >= expires:
            raise Failure(Reason.SEARCH_PAGES_EXPIRED, kept_seconds=round(self.kept_seconds), field="page_token")
        return [
            Ranked(chunk, score, dense, sparse, rerank, window and tuple(window), tuple(merged), tuple(duplicates))
            for chunk, score, dense, sparse, rerank, window, merged, duplicates in places
        ]

    def _sealed(self, expires: float, rest: Sequence[Ranked], asked: str) -> str:
        body = [expires, [astuple(it) for it in rest]]
        packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode())
        return base64.urlsafe_b64encode(self._signature(packed, asked) + packed).decode().rstrip("=")

    def _opened(self, token: str, asked: str) -> tuple[float, list[list[Any]]]:
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (ValueError, binascii.Error):
            raw = b""
        signature, packed = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        # Nothing is unpacked that we did not pack.
        if not hmac.compare_digest(signature, self._signature(packed, asked)):
            raise Failure(Reason.PAGE_TOKEN_INVALID, field="page_token")
        expires, places = json.loads(zlib.decompress(packed))
        return expires, places

    def _signature(self, packed: bytes, asked: str) -> bytes:
        return hmac.digest(self.key, hashlib.sha256(asked.encode()).digest() + packed, "sha256")
