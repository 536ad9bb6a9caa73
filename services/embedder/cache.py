"""What was computed once is not computed again: vectors by tenant, model, text and role.

A key is an HMAC under a key of the tenant's own, which follows from a secret of this
deployment: the file tells nobody whose a vector is or what was embedded, and no tenant
can find, or be faster for, what another has.  Invariant: what comes back has the bits
that were computed, before any dimension was cut off; requests never wait for a write.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.embedder.cache_file import Kept, VectorFile

# What a row of bytes costs in memory beside its vector.
_OVERHEAD_BYTES = 256
# Rows of one transaction: a reader waits for no more than that.
_AT_ONCE = 64
# Characters whose keys take less time than a thread's turn.
_AT_HAND = 16_384


@dataclass(frozen=True, slots=True)
class Space:
    """What a text's vector follows from beside the text: whose, what computes it and how, and what it is for."""

    owner: str
    build: str
    role: str


@dataclass(slots=True)
class CacheCounters:
    """Distinct texts of requests that were found, and that were not; those that were not written in time."""

    hits: int = 0
    misses: int = 0
    unwritten: int = 0


@dataclass(slots=True)
class VectorCache:
    """The file and, before it, what was computed last.  Without a file nothing is kept.

    ``thread`` runs a function in the one thread of the file.  :meth:`run` writes; it is started once.
    """

    secret: bytes
    file: VectorFile | None
    thread: Callable[..., Awaitable[Any]]
    recent_bytes: int = 16 * 1024 * 1024
    unwritten_bytes: int = 64 * 1024 * 1024
    counters: CacheCounters = field(default_factory=CacheCounters)
    _recent: "OrderedDict[bytes, Kept]" = field(default_factory=OrderedDict)
    _recent_held: int = 0
    _unwritten: dict[bytes, Kept] = field(default_factory=dict)
    _unwritten_held: int = 0
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, space: Space, texts: Sequence[str]) -> tuple[list[bytes], dict[bytes, Kept]]:
        """The key of each text, and what is kept under those keys."""
        if sum(map(len, texts)) <= _AT_HAND:
            keys = _keys(self.secret, space, texts)
        else:
            keys = await self.thread(_keys, self.secret, space, texts)
        found = self.recent(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing and self.file is not None:
            read: Mapping[bytes, Kept] = await self.thread(self.file.find, missing)
            found.update(read)
            self._remember(read)
        # Stored by another request while the file was read.
        found.update(self.recent([key for key in missing if key not in found]))
        self.counters.hits += len(found)
        self.counters.misses += len(set(keys)) - len(found)
        return keys, found

    def recent(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What of ``keys`` was computed or read lately: asked for again just before computing."""
        found = {}
        for key in keys:
            kept = self._recent.get(key) or self._unwritten.get(key)
            if kept is not None:
                found[key] = kept
                if key in self._recent:
                    self._recent.move_to_end(key)
        return found

    def keep(self, computed: Mapping[bytes, Kept]) -> None:
        """Remember at once, write later.  What the disk is too slow for is not written."""
        if self.file is None:
            return
        self._remember(computed)
        for key, kept in computed.items():
            if self._unwritten_held >= self.unwritten_bytes:
                self.counters.unwritten += 1
            elif key not in self._unwritten:
                self._unwritten[key] = kept
                self._unwritten_held += _size(kept)
        self._filled.set()

    @property
    def waiting(self) -> int:
        """Vectors that are not written yet."""
        return len(self._unwritten)

    async def run(self) -> None:
        """Write what was computed for as long as the service lives."""
        while self.file is not None:
            await self._filled.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write all that is not written yet."""
        while self._unwritten and self.file is not None:
            some = dict(list(self._unwritten.items())[:_AT_ONCE])
            await self.thread(self.file.keep, some)
            for key, kept in some.items():
                if self._unwritten.pop(key, None) is not None:
                    self._unwritten_held -= _size(kept)
        self._filled.clear()

    def _remember(self, entries: Mapping[bytes, Kept]) -> None:
        for key, kept in entries.items():
            if key not in self._recent:
                self._recent_held += _size(kept)
            self._recent[key] = kept
            self._recent.move_to_end(key)
        while self._recent_held > self.recent_bytes:
            _, oldest = self._recent.popitem(last=False)
            self._recent_held -= _size(oldest)


def _keys(secret: bytes, space: Space, texts: Sequence[str]) -> list[bytes]:
    """HMAC-SHA256 of each text under the key of its space, which is one under the key of its tenant.  Blocks."""
    tenant = hmac.digest(secret, space.owner.encode(), "sha256")
    within = hmac.digest(tenant, hashlib.sha256(space.build.encode()).digest() + space.role.encode(), "sha256")
    return [hmac.digest(within, text.encode(errors="surrogatepass"), "sha256") for text in texts]


def _size(kept: Kept) -> int:
    return int(kept.vector.nbytes) + _OVERHEAD_BYTES
