"""Where a collection's index is: in which kind of index, and under which number there.

Invariant: a number in an index is given to one build of one collection, ever; a new build
is made beside the one that serves, and what is left of a build that came to nothing is known
for what it is.
"""

from dataclasses import dataclass
from enum import StrEnum

# Of a number in an index: the collection's own number below, the build above.
_COLLECTION_BITS = 40


class Kind(StrEnum):
    """The indexes that there are, as settings and the catalog name them."""

    EMBEDDED = "embedded"
    WEAVIATE = "weaviate"


@dataclass(frozen=True, slots=True)
class Place:
    """One build of a collection's index.  Build 0 is the one that it is born with."""

    kind: Kind
    collection: int
    build: int

    @property
    def number(self) -> int:
        """The collection's number inside the index of this kind."""
        return self.build << _COLLECTION_BITS | self.collection


@dataclass(frozen=True, slots=True)
class Server:
    """Where Weaviate is.  Its gRPC port is on the host of ``url``; ``api_key`` may be empty."""

    url: str
    grpc_port: int
    api_key: str
