"""Vectors are recorded under the id that they were asked under."""

import json
from typing import Any

from gateway.embeddings import wire
from gateway.embeddings.embedding import Element, Embeddings, Vectors
from gateway.http.embeddings import EmbeddingExchange
from gateway.http.transport import Asked
from services.chassis.context import serving
from tests.unit.gateway.asking.stock import ASKING, Records
from tests.unit.gateway.test_openapi import Servicers

ID = "01890000-0000-7000-8000-000000000000"


class Embedder:
    """Says the same of all texts."""

    async def embed(self, _: Any) -> Vectors:
        return Vectors(bytes(4), Element.FLOAT32, (1, 1), (), (3,), (False,), "m", "sha256:e")

    async def models(self) -> Any:
        raise AssertionError("nobody asks")


async def recorded(header: str) -> str:
    records: Any = Records()
    servicers: Any = Servicers()
    request = EmbeddingExchange(servicers, header).parse(Asked(json.dumps({"model": "m", "input": "x"}).encode()))
    with serving(ASKING):
        await Embeddings(Embedder(), records, lambda: 1.0, lambda: "drawn").create(wire.wanted(request))
    (receipt,) = records.kept
    return str(receipt.request_id)


async def test_what_vectors_used_is_recorded_under_the_id_of_their_request() -> None:
    assert await recorded(ID) == ID
    assert await recorded("") == "drawn"
