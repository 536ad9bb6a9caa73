"""The index in a Weaviate server.

Invariant: what is asked of a server that is away fails at once and by name, and what was
known of it is asked anew when it is back.
"""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from services.chassis.errors import Failure
from services.retriever.index.index import Entry, Frequencies, Vector
from services.retriever.index.places import Server
from services.retriever.index.weaviate_link import Link
from services.retriever.index.weaviate_schema import class_of, create
from services.retriever.index.weaviate_shelf import Known, Shelf
from services.retriever.text.tokens import Tokens

T = TypeVar("T")


class WeaviateIndex:
    """Implements :class:`services.retriever.index.index.Index`.  Thread-safe; connects when it is first used."""

    def __init__(self, server: Server, catalog_id: str) -> None:
        self._known = Known(class_of(catalog_id), uuid.uuid5(uuid.NAMESPACE_OID, catalog_id), Tokens())
        self._link = Link(server, lambda client: create(client, self._known.name))

    def close(self) -> None:
        """Close the connection."""
        self._link.end()

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """As the Protocol says.  The server has no transactions: what was begun is whole when it is repeated."""
        self._ask(lambda shelf: shelf.replace(collection, add, remove))

    def drop(self, collection: int) -> None:
        """As the Protocol says."""
        self._ask(lambda shelf: shelf.drop(collection))

    def members(self, collection: int) -> frozenset[int]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.members(collection))

    def collections(self) -> frozenset[int]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.collections())

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.keyword(collection, words, limit, allowed))

    def holders(self, collection: int, word: str) -> frozenset[int]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.holders(collection, word))

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.nearest(collection, vector, limit, allowed))

    def frequencies(self, collection: int, words: Sequence[str]) -> Frequencies:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.frequencies(collection, words))

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.similarities(collection, vector, chunks))

    def digest(self, collection: int) -> str:
        """As the Protocol says."""
        return self._ask(lambda shelf: shelf.digest(collection))

    def _ask(self, work: Callable[[Shelf], T]) -> T:
        try:
            return self._link.ask(lambda client: work(Shelf(client, self._known)))
        except Failure:
            self._known.forget()
            raise
