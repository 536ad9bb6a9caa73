"""What an encoder is trained to do."""

from enum import StrEnum


class Role(StrEnum):
    """What a model is for."""

    EMBEDDER = "embedder"
    RERANKER = "reranker"
