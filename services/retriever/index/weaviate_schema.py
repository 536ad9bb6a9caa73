"""What a catalog's collection in Weaviate looks like.

Everything that its ranking or its exactness depends on is said here and not left to the
server's defaults, which change between releases.
"""

import hashlib

import weaviate
from weaviate.classes.config import Configure, DataType, Property, StopwordsPreset, Tokenization, VectorDistances
from weaviate.exceptions import UnexpectedStatusCodeError

VECTOR = "text"
# Bump when what follows changes: the index is then built anew under another name.
_FORMAT = 1
_UNPROCESSABLE = 422


def class_of(catalog_id: str) -> str:
    """The collection's name: another catalog has another, and nothing of it can be guessed."""
    return f"Trivium{_FORMAT}_{hashlib.sha256(catalog_id.encode()).hexdigest()[:32]}"


def create(client: weaviate.WeaviateClient, name: str) -> None:
    """Make the collection unless it is there."""
    if client.collections.exists(name):
        return
    try:
        client.collections.create(
            name,
            description="Index of a Trivium retriever; it is built again from its catalog when it is deleted.",
            multi_tenancy_config=Configure.multi_tenancy(
                enabled=True, auto_tenant_creation=False, auto_tenant_activation=True
            ),
            inverted_index_config=Configure.inverted_index(
                bm25_k1=1.2, bm25_b=0.75, stopwords_preset=StopwordsPreset.NONE, index_null_state=False
            ),
            vector_config=Configure.Vectors.self_provided(
                name=VECTOR,
                # Every row is compared.  An HNSW graph's log is buffered in the server's memory: killed, 1.39.0 comes
                # back with the objects and without the graph, and finds nothing by vector.
                vector_index_config=Configure.VectorIndex.flat(
                    # Vectors have length 1, so this is the cosine; "cosine" would store them changed.
                    distance_metric=VectorDistances.DOT,
                    quantizer=Configure.VectorIndex.Quantizer.none(),
                ),
            ),
            properties=_properties(),
        )
    except UnexpectedStatusCodeError as error:
        # Another process made it at the same time.
        if error.status_code != _UNPROCESSABLE or not client.collections.exists(name):
            raise


def _properties() -> list[Property]:
    return [
        # As text: a number would lose bits above 2^53.
        Property(
            name="chunk",
            data_type=DataType.TEXT,
            tokenization=Tokenization.FIELD,
            index_filterable=True,
            index_searchable=False,
        ),
        # The tokens that FTS5 makes of the text, a blank between two.
        Property(
            name="words",
            data_type=DataType.TEXT,
            tokenization=Tokenization.WHITESPACE,
            index_filterable=True,
            index_searchable=True,
        ),
        Property(name="length", data_type=DataType.INT, index_filterable=True, index_searchable=False),
    ]
