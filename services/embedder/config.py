"""Settings of the embedder."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AliasChoices, Field

from services.chassis.config import ServiceSettings, environment
from services.chassis.models import DEFAULT_EMBEDDING


class Precision(StrEnum):
    """What the model computes in; ``AUTO`` takes bfloat16 only where the processor has it and it is faster."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class EmbedderSettings(ServiceSettings):
    """What the embedder needs beside what every service has."""

    service: ClassVar[str] = "embedder"
    model_config = environment("embedder")

    model: str = Field(default=DEFAULT_EMBEDDING, validation_alias=AliasChoices("TRIVIUM_EMBEDDING_MODEL"))
    precision: Precision = Precision.AUTO
    # Texts before which the model wants to be told what they are for; all-MiniLM-L6-v2 wants nothing.
    query_prefix: str = ""
    document_prefix: str = ""
    # Whether the model was trained so that the first dimensions alone are a vector (matryoshka).
    shortens: bool = False
    # 0 takes the embedder's share of the machine.
    threads: int = Field(default=0, ge=0)
    # Padded tokens of one batch.  On a processor larger is slower: the activations leave the cache.
    batch_tokens: int = Field(default=2048, ge=16)
    # Padded tokens that may wait; beyond, unary calls are refused and streams wait.
    queue_tokens: int = Field(default=1_000_000, ge=1)
    # Bytes on disk of vectors that were computed, so that they need not be again; the oldest used go first.  0 keeps none.
    cache_bytes: int = Field(default=1024**3, ge=0)
    # Requests of one stream that are worked on at once, so that the engine never waits for the wire.
    stream_ahead: int = Field(default=4, ge=1)
