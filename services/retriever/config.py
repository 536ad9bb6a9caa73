"""Settings of the retriever."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from services.chassis.config import ServiceSettings, environment
from services.retriever.index.places import Kind
from services.retriever.search import mixing
from services.retriever.summaries.statements import Mode


class RetrieverSettings(ServiceSettings):
    """What the retriever needs beside what every service has."""

    service: ClassVar[str] = "retriever"
    model_config = environment("retriever")

    max_document_bytes: int = Field(default=10 * 1024 * 1024, ge=1)
    # Tokens of a chunk, its heading path apart; all-MiniLM-L6-v2 was trained at 256 in all.
    max_chunk_tokens: int = Field(default=200, ge=16)
    # Documents that are ingested at once, so that one's splitting overlaps another's embedding: of documents of one chunk
    # two keep an embedder with one thread at 0.5 to 0.7 of what it does alone, four at 0.9 and more.
    ingestion_workers: int = Field(default=4, ge=1, le=16)
    # Texts of one request to the embedder.
    embed_texts: int = Field(default=128, ge=1, le=2048)
    # How often collections that nobody used for their time are looked for, and use is written down.
    expiry_seconds: float = Field(default=30.0, gt=0)
    # Longest that ingestion waits before it tries an absent embedder again.
    retry_seconds: float = Field(default=5.0, gt=0)
    # A document is parsed in a child process that may take this much processor time and memory.
    parse_seconds: float = Field(default=60.0, gt=0)
    parse_memory_bytes: int = Field(default=2 * 1024**3, ge=256 * 1024**2)
    # What a converted document's text may grow to.
    max_document_characters: int = Field(default=64 * 1024**2, ge=1)
    # Where collections are indexed that nobody moved; the catalog is the truth in either case.
    index: Kind = Kind.EMBEDDED
    # A Weaviate server, for instance http://weaviate:8080; its gRPC port is on the same host.
    weaviate_url: str = ""
    weaviate_grpc_port: int = Field(default=50051, ge=1, le=65535)
    weaviate_api_key: SecretStr = SecretStr("")
    # In the embedded index collections of more chunks than this are searched by HNSW, the others exactly.
    exact_chunks: int = Field(default=200_000, ge=0)
    # Vectors that are kept in memory for search; collections beyond are read again when asked.
    vector_cache_bytes: int = Field(default=512 * 1024**2, ge=0)
    # Each arm's list before fusion: at least this long.
    search_depth: int = Field(default=100, ge=1, le=1000)
    # What a reranker's scores count beside the fused ones.
    rerank_weight: float = Field(default=mixing.WEIGHT, ge=0, le=1)
    # Longest that a search waits for reranking; its own deadline may allow less.
    rerank_seconds: float = Field(default=3.0, gt=0)
    # Whether there is a generator to ask, at TRIVIUM_GENERATOR_ADDRESS; what needs one is refused where there is none.
    generation: bool = True
    # Longest that a search waits for what a generator writes for it; its own deadline may allow less.
    expand_seconds: float = Field(default=8.0, gt=0)
    # Who words summaries where a request does not say: extractive quotes, abstractive asks the generator.
    summary_mode: Mode = Mode.EXTRACTIVE
    # How long the pages of a search can be asked for.
    pages_seconds: float = Field(default=600.0, gt=0)
    dense_weight: float = Field(default=0.6, ge=0, le=1)
    # Hosts that URLs are fetched from, as globs with commas between; `public` opens every one with public addresses
    # only.  Empty fetches nothing.
    source_hosts: str = ""
    # Networks beyond the public ones whose addresses may be connected to, with commas between: 10.1.0.0/16.
    source_networks: str = ""
    source_ports: str = "80,443"
    # A fetch in all, its redirects included; and one connection.
    source_seconds: float = Field(default=60.0, gt=0)
    source_connect_seconds: float = Field(default=10.0, gt=0)
    # Sources that are read at once; a tenant's are read one after another.
    source_readers: int = Field(default=4, ge=1, le=64)
    # JSON, here or in a file: buckets that tenants may read, each {"bucket", "tenants", "prefix", "endpoint", "region",
    # "access_key_id", "secret_access_key"}, the keys also as files ("secret_access_key_file").  Nothing else is read.
    buckets: SecretStr = SecretStr("")
    buckets_file: Path | None = None
