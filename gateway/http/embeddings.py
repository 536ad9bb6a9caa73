"""POST /v1/embeddings: texts or their tokens to vectors, as numbers or as base64 of little-endian float32."""

import base64
import json
import struct
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

from pydantic import Field
from trivium.embedder.v1 import embedder_pb2
from trivium.gateway.v1 import embeddings_pb2

from gateway.http.answers import NoQuery
from gateway.http.bodies import Count, Text
from gateway.http.parsing import Strict, parse
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

_FLOAT_BYTES = 4
_TokenId = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
_ROLES = {"query": embedder_pb2.TEXT_ROLE_QUERY, "document": embedder_pb2.TEXT_ROLE_DOCUMENT}


class EmbeddingExtension(Strict):
    """What Trivium adds: what the texts are for, and whether nothing may be kept of them."""

    role: Literal["query", "document"] = "document"
    no_store: bool = False


class EmbeddingCreation(Strict):
    """POST /v1/embeddings.  ``user`` changes nothing: an alias of an encoder tries no canaries."""

    model: Text
    input: Text | list[Text] | list[_TokenId] | list[list[_TokenId]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[Count, Field(ge=1, lt=1 << 31)] | None = None
    user: Text = ""
    trivium: EmbeddingExtension = EmbeddingExtension()

    @property
    def texts(self) -> list[str]:
        """What came as text."""
        given = [self.input] if isinstance(self.input, str) else self.input
        return [text for text in given if isinstance(text, str)]

    @property
    def tokens(self) -> list[list[int]]:
        """What came as tokens; a list of numbers is one text."""
        if isinstance(self.input, str):
            return []
        ids = [token for token in self.input if isinstance(token, int)]
        return [ids] if ids else [text for text in self.input if isinstance(text, list)]


class Embedding(Strict):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Strict):
    """Tokens of all texts together, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(Strict):
    """The vectors; ``trivium`` says which weights made them and which texts were cut at the model's limit."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    trivium: dict[str, Any]


class EmbeddingExchange:
    """One request for vectors."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent = {
            "request": "input",
            "request.texts": "input",
            "request.token_ids": "input",
            "token_ids": "input",
            "request.model": "model",
            "request.dimensions": "dimensions",
        }
        self._servicer = servicers.embeddings
        self._base64 = False

    def parse(self, asked: Asked) -> embeddings_pb2.CreateEmbeddingsRequest:
        """As Exchange."""
        body = parse(EmbeddingCreation, asked.body)
        self._base64 = body.encoding_format == "base64"
        return embeddings_pb2.CreateEmbeddingsRequest(
            request=embedder_pb2.EmbedRequest(
                model=body.model,
                texts=body.texts,
                token_ids=[embedder_pb2.TextTokens(ids=ids) for ids in body.tokens],
                role=_ROLES[body.trivium.role],
                dimensions=body.dimensions or 0,
                no_store=body.trivium.no_store,
            ),
            request_id=self.request_id,
        )

    async def answer(
        self, message: embeddings_pb2.CreateEmbeddingsRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        answer = await self._servicer.CreateEmbeddings(message, context)
        used = sum(answer.token_counts)
        body = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": self._vector(row)}
                for index, row in enumerate(_rows(answer))
            ],
            "model": answer.model,
            "usage": {"prompt_tokens": used, "total_tokens": used},
            "trivium": {
                "model_digest": answer.model_digest,
                "truncated": [index for index, cut in enumerate(answer.truncated) if cut],
            },
        }
        yield json.dumps(body, ensure_ascii=False).encode()

    def _vector(self, row: bytes) -> str | list[float]:
        if self._base64:
            return base64.b64encode(row).decode()
        return list(struct.unpack(f"<{len(row) // _FLOAT_BYTES}f", row))


def _rows(answer: embeddings_pb2.CreateEmbeddingsResponse) -> list[bytes]:
    count, dimensions = answer.embeddings.shape
    size, data = dimensions * _FLOAT_BYTES, answer.embeddings.data
    return [data[row * size : (row + 1) * size] for row in range(count)]


_RPCS = embeddings_pb2.DESCRIPTOR.services_by_name["EmbeddingService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/embeddings",
        EmbeddingExchange,
        limited=True,
        rpc=_RPCS["CreateEmbeddings"],
        summary="Vectors of texts, or of texts as tokens of the model.",
        body=EmbeddingCreation,
        query=NoQuery,
        answer=EmbeddingAnswer,
    ),
)
