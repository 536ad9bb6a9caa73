"""The indexes of a deployment, opened: the embedded one always, Weaviate where its address is set."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.retriever.config import RetrieverSettings
from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Index
from services.retriever.index.places import Kind, Server


@asynccontextmanager
async def opened_indexes(settings: RetrieverSettings, catalog_id: str) -> AsyncIterator[Mapping[Kind, Index]]:
    """The indexes by kind, of this catalog.  A server that is away shows when it is asked."""
    path = settings.service_dir / "index.db"
    embedded = EmbeddedIndex(path, catalog_id, settings.vector_cache_bytes, settings.exact_chunks)
    await asyncio.to_thread(embedded.open)
    indexes: dict[Kind, Index] = {Kind.EMBEDDED: embedded}
    try:
        if not settings.weaviate_url:
            yield indexes
            return
        # Imported here: it takes a second, which a deployment without it need not wait for.
        from services.retriever.index.weaviate import WeaviateIndex

        key = settings.weaviate_api_key.get_secret_value()
        server = Server(settings.weaviate_url, settings.weaviate_grpc_port, key)
        weaviate = WeaviateIndex(server, catalog_id)
        try:
            yield {**indexes, Kind.WEAVIATE: weaviate}
        finally:
            await asyncio.to_thread(weaviate.close)
    finally:
        await asyncio.to_thread(embedded.close)
