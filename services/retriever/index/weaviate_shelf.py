"""What is asked of a Weaviate server for an index: one multi-tenant collection a catalog, a tenant a collection.

A Weaviate tenant is a shard of its own, so no collection, and no other catalog on the same
server, moves another's statistics.  Weaviate finds candidates; scores are computed here, by
the formulas of the embedded index from the stored words and vectors, so that both rank
alike.  Vectors are compared exactly, in time that grows with the collection.  Where the two
may differ: BM25 candidates are the best of Weaviate's own BM25, twice as many as are wanted
and a hundred more, and a word that its tokenizer splits is counted as far as all of its
parts are in a chunk.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import weaviate
from weaviate.classes.config import ConsistencyLevel
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, Metrics
from weaviate.classes.tenants import Tenant

from services.retriever.index.bm25 import Bm25, Statistics
from services.retriever.index.index import Entry, Frequencies, Vector, collective, counted_to
from services.retriever.index.vectors import Matrix
from services.retriever.index.weaviate_link import away
from services.retriever.index.weaviate_schema import VECTOR
from services.retriever.text.keywords import keyword_text, most_holders
from services.retriever.text.tokens import Tokens, entry_digest

# Objects of one request: of 384 dimensions, about 1 MB.
_BATCH = 500
# Numbers of a filter, and of an answer, that Weaviate takes at once.
_PAGE = 1_000
# More than asked for: what Weaviate puts in another order, and ties at the end, are decided here.
_TIES = 32
_MORE_CANDIDATES = 100
_MOST_CANDIDATES = 10_000
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a catalog's collection, also without asking: ``shards`` are tenants that were seen.

    ``statistics`` are of collections since their last change: nobody else writes to this catalog's.
    """

    name: str
    namespace: uuid.UUID
    tokens: Tokens
    shards: set[int] = field(default_factory=set)
    statistics: dict[int, Statistics] = field(default_factory=dict)

    def forget(self) -> None:
        """The server was away: ask anew."""
        self.shards.clear()
        self.statistics.clear()


@dataclass(frozen=True, slots=True)
class Shelf:
    """The methods of :class:`services.retriever.index.index.Index`, over a client."""

    client: weaviate.WeaviateClient
    known: Known

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """As the Protocol says.  The server has no transactions: what was begun is whole when it is repeated."""
        shard = self._shard(collection, make=bool(add))
        if shard is None:
            return
        try:
            # The added as well: the server skips an object that it holds unchanged, and one of an interrupted change may
            # lack its entry in the vector index.
            _delete(shard, [self._id(collection, chunk) for chunk in (*remove, *(entry.chunk for entry in add))])
            for first in range(0, len(add), _BATCH):
                self._insert(shard, collection, add[first : first + _BATCH])
            # Weaviate 1.39.0 flushes its logs before the vectors of a batch are in them: killed, it comes back with the
            # objects and without their vectors.  A batch that changes nothing flushes once more.
            if add:
                self._insert(shard, collection, add[-1:])
        finally:
            self.known.statistics.pop(collection, None)

    def drop(self, collection: int) -> None:
        """As the Protocol says."""
        if self._shard(collection) is not None:
            self._everything().tenants.remove([_tenant(collection)])
        self.known.shards.discard(collection)
        self.known.statistics.pop(collection, None)

    def members(self, collection: int) -> frozenset[int]:
        """As the Protocol says."""
        shard = self._shard(collection)
        if shard is None:
            return frozenset()
        objects = shard.iterator(return_properties=["chunk"], cache_size=_PAGE)
        return frozenset(int(found.properties["chunk"]) for found in objects)

    def collections(self) -> frozenset[int]:
        """As the Protocol says."""
        numbers = [int(name[1:]) for name in self._everything().tenants.get()]
        return frozenset(number for number in numbers if self._count(number))

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        phrases = [tuple(tokens) for tokens in self.known.tokens.of(words) if tokens]
        shard = self._shard(collection)
        if shard is None or not phrases or limit < 1 or (allowed is not None and not allowed):
            return {}
        formula = self._formula(shard, collection, phrases)
        query = " ".join(dict.fromkeys(token for phrase in formula.phrases for token in phrase))
        count = min(2 * limit + _MORE_CANDIDATES, _MOST_CANDIDATES)
        while True:
            answer = shard.query.bm25(
                query,
                query_properties=["words"],
                limit=count,
                filters=_only(allowed),
                return_properties=["chunk", "words"],
            )
            texts = {int(it.properties["chunk"]): it.properties["words"].split() for it in answer.objects}
            found = formula.ranked(texts)
            if _settled(list(found.values()), limit, len(answer.objects), count):
                return dict(list(found.items())[:limit])
            count = min(4 * count, _MOST_CANDIDATES)

    def holders(self, collection: int, word: str) -> frozenset[int]:
        """As the Protocol says."""
        (phrase,) = self.known.tokens.of([word])
        shard = self._shard(collection)
        if shard is None or not phrase:
            return frozenset()
        if _holders(shard, phrase) <= _MOST_CANDIDATES:
            objects = _filtered(shard, Filter.by_property("words").contains_all(phrase))
        else:
            # Weaviate gives no more than this through a filter: look at every chunk.
            objects = shard.iterator(return_properties=["chunk", "words"], cache_size=_PAGE)
        return frozenset(
            int(it.properties["chunk"]) for it in objects if _in_order(phrase, it.properties["words"].split())
        )

    def frequencies(self, collection: int, words: Sequence[str]) -> Frequencies:
        """As the Protocol says."""
        shard = self._shard(collection)
        if shard is None:
            return Frequencies(0, dict.fromkeys(words, 0))
        phrases = {word: tuple(tokens) for word, tokens in zip(words, self.known.tokens.of(words), strict=True)}
        statistics = self._statistics(shard, collection, [phrase for phrase in phrases.values() if phrase])
        most = counted_to(statistics.chunks)
        counts = {word: min(statistics.holders.get(phrase, 0), most) for word, phrase in phrases.items()}
        return Frequencies(statistics.chunks, counts)

    def _formula(self, shard: Any, collection: int, phrases: Sequence[tuple[str, ...]]) -> Bm25:
        """The scores of the phrases in this collection; of those that tell chunks apart, as the embedded index has it."""
        statistics = self._statistics(shard, collection, phrases)
        most = most_holders(statistics.chunks)
        telling = [phrase for phrase in phrases if most is None or statistics.holders[phrase] <= most]
        return Bm25(statistics, tuple(telling or phrases))

    def _statistics(self, shard: Any, collection: int, phrases: Sequence[tuple[str, ...]]) -> Statistics:
        """Of the collection, these phrases among them."""
        statistics = self.known.statistics.get(collection)
        if statistics is None:
            totals = shard.aggregate.over_all(total_count=True, return_metrics=_total_words())
            statistics = Statistics(totals.total_count or 0, int(totals.properties["length"].sum_ or 0), {})
            self.known.statistics[collection] = statistics
        for phrase in phrases:
            if phrase not in statistics.holders:
                statistics.holders[phrase] = _holders(shard, phrase)
        return statistics

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        shard = self._shard(collection)
        if shard is None or limit < 1 or (allowed is not None and not allowed):
            return {}
        count = min(limit + _TIES, _MOST_CANDIDATES)
        while True:
            answer = shard.query.near_vector(
                vector.astype(np.float16).astype(np.float32).tolist(),
                target_vector=VECTOR,
                limit=count,
                filters=_only(allowed),
                return_properties=["chunk"],
                include_vector=[VECTOR],
            )
            found = _matrix(answer.objects).nearest(vector, count)
            if _settled(list(found.values()), limit, len(answer.objects), count):
                return dict(list(found.items())[:limit])
            count = min(4 * count, _MOST_CANDIDATES)

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As the Protocol says."""
        shard = self._shard(collection)
        if shard is None or not chunks:
            return {}
        ids = [self._id(collection, chunk) for chunk in chunks]
        objects: list[Any] = []
        for first in range(0, len(ids), _PAGE):
            some = ids[first : first + _PAGE]
            objects += shard.query.fetch_objects_by_ids(
                some, limit=len(some), return_properties=["chunk"], include_vector=[VECTOR]
            ).objects
        return _matrix(objects).nearest(vector, len(ids))

    def digest(self, collection: int) -> str:
        """As the Protocol says."""
        shard = self._shard(collection)
        if shard is None:
            return collective(())
        objects = shard.iterator(include_vector=True, return_properties=["chunk", "words"], cache_size=_BATCH)
        return collective(
            entry_digest(int(it.properties["chunk"]), it.properties["words"].split(), _packed(it)) for it in objects
        )

    def _insert(self, shard: Any, collection: int, entries: Sequence[Entry]) -> None:
        """Add these; an object that the server refused is tried again, and refused thrice it fails the change."""
        tokens = self.known.tokens.of([keyword_text(entry.text) for entry in entries])
        objects = [
            DataObject(
                properties={"chunk": str(it.chunk), "words": " ".join(words), "length": len(words)},
                uuid=self._id(collection, it.chunk),
                vector={VECTOR: np.frombuffer(it.vector, dtype="<f2").astype(np.float32).tolist()},
            )
            for it, words in zip(entries, tokens, strict=True)
        ]
        for _ in range(_TRIES):
            # Also where all fail: then the client raises, and that is an absent server.
            errors = shard.data.insert_many(objects).errors
            objects = [objects[place] for place in sorted(errors)]
            if not objects:
                return
        raise away()

    def _count(self, collection: int) -> int:
        statistics = self.known.statistics.get(collection)
        if statistics is not None:
            return statistics.chunks
        shard = self._shard(collection)
        return 0 if shard is None else int(shard.aggregate.over_all(total_count=True).total_count or 0)

    def _id(self, collection: int, chunk: int) -> uuid.UUID:
        """The same for the same chunk, so that a repeated change is one."""
        return uuid.uuid5(self.known.namespace, f"{collection}/{chunk}")

    def _shard(self, collection: int, *, make: bool = False) -> Any:
        """The collection's tenant; None where there is none and none is made."""
        everything = self._everything()
        name = _tenant(collection)
        if collection not in self.known.shards:
            if everything.tenants.get_by_name(name) is None:
                if not make:
                    return None
                everything.tenants.create([Tenant(name=name)])
            self.known.shards.add(collection)
        return everything.with_tenant(name)

    def _everything(self) -> Any:
        """The catalog's collection of all tenants."""
        # A write counts when most replicas have it, and a read asks as many: it sees every write.
        return self.client.collections.use(self.known.name).with_consistency_level(ConsistencyLevel.QUORUM)


def _delete(shard: Any, ids: Sequence[uuid.UUID]) -> None:
    for first in range(0, len(ids), _PAGE):
        some = ids[first : first + _PAGE]
        if shard.data.delete_many(where=Filter.by_id().contains_any(some)).failed:
            raise away()


def _only(allowed: Collection[int] | None) -> Any:
    return None if allowed is None else Filter.by_property("chunk").contains_any([str(chunk) for chunk in allowed])


def _total_words() -> Any:
    return Metrics("length").integer(sum_=True)


def _holders(shard: Any, phrase: Sequence[str]) -> int:
    """How many chunks hold all of its tokens; of one token, exactly those that FTS5 counts."""
    filters = Filter.by_property("words").contains_all(list(phrase))
    return int(shard.aggregate.over_all(filters=filters, total_count=True).total_count or 0)


def _filtered(shard: Any, filters: Any) -> Iterator[Any]:
    """The objects that pass, page by page; at most ``_MOST_CANDIDATES``."""
    for first in range(0, _MOST_CANDIDATES, _PAGE):
        found = shard.query.fetch_objects(
            filters=filters, limit=_PAGE, offset=first, return_properties=["chunk", "words"]
        ).objects
        yield from found
        if len(found) < _PAGE:
            return


def _in_order(phrase: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the words hold the phrase, its tokens one behind the other."""
    length = len(phrase)
    return any(list(words[at : at + length]) == list(phrase) for at in range(len(words) - length + 1))


def _matrix(objects: Sequence[Any]) -> Matrix:
    return Matrix.of({int(it.properties["chunk"]): _packed(it) for it in objects}.items())


def _packed(found: Any) -> bytes:
    """The vector as it came to us: binary16 survives the way through float32."""
    return np.asarray(found.vector[VECTOR], dtype=np.float32).astype("<f2").tobytes()


def _settled(scores: Sequence[float], limit: int, found: int, asked: int) -> bool:
    """Whether nothing behind what was found can tie with what is taken."""
    if found < asked or asked >= _MOST_CANDIDATES:
        return True
    return len(scores) >= limit and scores[limit - 1] > scores[-1]


def _tenant(collection: int) -> str:
    return f"c{collection}"
