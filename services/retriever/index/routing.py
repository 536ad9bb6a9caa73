"""Every collection's index under one roof: whoever searches or changes need not know which one it is.

Invariants: a collection is searched in exactly one build of its index; an index that was
away, and may have missed a change, answers nothing before it was brought to the catalog's
state again.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.chassis.errors import Code, Failure, Reason
from services.retriever.index.index import Entry, Frequencies, Index, Vector
from services.retriever.index.places import Kind, Place

_RETRY_AFTER_SECONDS = 1.0


@dataclass(slots=True)
class Router:
    """Implements :class:`services.retriever.index.index.Index` over the indexes by kind.  Thread-safe.

    Collections whose place nobody set are in build 0 of the ``default`` kind.  ``lost`` is
    called, in any thread, when an index begins to need mending.
    """

    indexes: Mapping[Kind, Index]
    default: Kind
    lost: Callable[[], None] = lambda: None
    _places: dict[int, Place] = field(default_factory=dict)
    _under_way: set[Place] = field(default_factory=set)
    # Builds that were changed in the life of this process.
    _touched: set[Place] = field(default_factory=set)
    # Of each index, how often it was lost, and that count when it was last known to be whole.
    _losses: dict[Kind, int] = field(default_factory=dict)
    _whole: dict[Kind, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def place(self, collection: int) -> Place:
        """Where the collection is searched now."""
        with self._lock:
            return self._places.get(collection) or Place(self.default, collection, 0)

    def move(self, place: Place) -> None:
        """From now on the place's collection is searched there.  Call while no search of it is inside."""
        with self._lock:
            self._places[place.collection] = place

    @contextmanager
    def building(self, place: Place) -> Iterator[None]:
        """Inside the block this place, where nothing is searched yet, is nobody's remains."""
        with self._lock:
            self._under_way.add(place)
        try:
            yield
        finally:
            with self._lock:
                self._under_way.discard(place)

    def numbers_under_way(self, kind: Kind) -> frozenset[int]:
        """Numbers in the index of this kind under which something is built now."""
        with self._lock:
            return frozenset(place.number for place in self._under_way if place.kind is kind)

    def index(self, kind: Kind) -> Index:
        """The index of this kind.  Raises PEER_UNAVAILABLE where none is configured."""
        found = self.indexes.get(kind)
        if found is None:
            raise _away(kind)
        return found

    def losses(self, kind: Kind) -> int:
        """How often the index was lost: ask before mending, and give it to :meth:`mended`."""
        with self._lock:
            return self._losses.get(kind, 0)

    def mended(self, kind: Kind, losses: int) -> bool:
        """The index has the catalog's state, unless it was lost again meanwhile; whether it serves."""
        with self._lock:
            self._whole[kind] = losses
            return self._losses.get(kind, 0) == losses

    def whole(self, kind: Kind) -> bool:
        """Whether the index of this kind serves."""
        with self._lock:
            return self._whole.get(kind, -1) == self._losses.get(kind, 0)

    def require(self, collection: int) -> None:
        """Raise PEER_UNAVAILABLE unless the collection's index serves: ask before the catalog goes ahead of it."""
        kind = self.place(collection).kind
        self.index(kind)
        if not self.whole(kind):
            raise _away(kind)

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """As the Protocol says; where the index is away, the change is made when it is mended, before any search."""
        place = self.place(collection)
        with self._changing(place.kind):
            self.change(place, add, remove)

    def change(self, place: Place, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """Change one build.  Raises PEER_UNAVAILABLE."""
        with self._lock:
            self._touched.add(place)
        self.index(place.kind).replace(place.number, add, remove)

    def clear(self, place: Place) -> None:
        """Drop a build that was changed before its index was lost: after a crash a server may hold a change in part.

        Weaviate 1.39.0, killed, has objects whose words or vector it does not find.  Raises PEER_UNAVAILABLE.
        """
        with self._lock:
            touched = place in self._touched and self._losses.get(place.kind, 0) != self._whole.get(place.kind, -1)
        if touched:
            self.index(place.kind).drop(place.number)
            with self._lock:
                self._touched.discard(place)

    def drop(self, collection: int) -> None:
        """As the Protocol says; where the index is away, when it is mended."""
        place = self.place(collection)
        with self._changing(place.kind):
            self.index(place.kind).drop(place.number)
        with self._lock:
            self._places.pop(collection, None)

    def members(self, collection: int) -> frozenset[int]:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.members(number)

    def collections(self) -> frozenset[int]:
        """As the Protocol says: those in their places."""
        with self._lock:
            kinds = list(self.indexes)
            places = dict(self._places)
        found: set[int] = set()
        for kind in kinds:
            numbers = self.indexes[kind].collections()
            set_ = {it.collection for it in places.values() if it.kind is kind and it.number in numbers}
            born = {number for number in numbers if kind is self.default and number not in places}
            found |= set_ | born
        return frozenset(found)

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.keyword(number, words, limit, allowed)

    def holders(self, collection: int, word: str) -> frozenset[int]:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.holders(number, word)

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.nearest(number, vector, limit, allowed)

    def frequencies(self, collection: int, words: Sequence[str]) -> Frequencies:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.frequencies(number, words)

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.similarities(number, vector, chunks)

    def digest(self, collection: int) -> str:
        """As the Protocol says."""
        with self._asking(collection) as (index, number):
            return index.digest(number)

    @contextmanager
    def _asking(self, collection: int) -> Iterator[tuple[Index, int]]:
        self.require(collection)
        place = self.place(collection)
        try:
            yield self.index(place.kind), place.number
        except Failure as failure:
            if failure.code is Code.UNAVAILABLE:
                # It may come back with less than it acknowledged.
                self.lose(place.kind)
            raise

    @contextmanager
    def _changing(self, kind: Kind) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            if failure.code is not Code.UNAVAILABLE:
                raise
            self.lose(kind)

    def lose(self, kind: Kind) -> None:
        """The index may lack something: nothing is searched in it before it is mended."""
        with self._lock:
            self._losses[kind] = self._losses.get(kind, 0) + 1
        self.lost()


def _away(kind: Kind) -> Failure:
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_AFTER_SECONDS, service=kind.value)
