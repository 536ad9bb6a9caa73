"""Vectors are recorded under the id that they were asked under, with what was asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.embeddings import wire
from gateway.embeddings.embedding import Element, Embeddings, Purpose, Vectors, Wanted
from gateway.generation import Receipt
from gateway.http.embeddings import EmbeddingExchange
from gateway.http.transport import Asked
from gateway.peers.access import to_record
from gateway.receipts import Waiting
from services.access import wire as access_wire
from services.access.usage import UsageLedger
from services.chassis.context import serving
from services.chassis.errors import Reason
from tests.unit.access.test_usage import of_ada, spent
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


async def receipt_of(wanted: Wanted, at: float = 1.0) -> Receipt:
    records: Any = Records()
    with serving(ASKING):
        await Embeddings(Embedder(), records, lambda: at, lambda: "drawn").create(wanted)
    kept: list[Receipt] = records.kept
    (receipt,) = kept
    return receipt


LINE = Wanted("m", ("alpha", "beta"), request_id=ID)


@pytest.mark.parametrize("unattended", [True, False])
async def test_vectors_of_a_batchs_line_that_is_asked_again_count_once_and_of_one_who_waits_twice(
    tmp_path: Path, unattended: bool
) -> None:
    asked = [(LINE, 1.0), (LINE, 2.0), (replace(LINE, texts=("alpha", "gamma")), 3.0)]
    waiting = [Waiting("ada", "k", "/m", await receipt_of(*one), unattended=unattended) for one in asked]
    usages = access_wire.usages(map(to_record, waiting))
    async with of_ada(tmp_path) as database:
        refused = await UsageLedger(database, lambda: 1_796_000_000_000_000, access_wire.answer_of).record_all(usages)
        assert (await spent(database))[""] == 3
    same = None if unattended else Reason.REQUEST_ID_REUSED
    assert [failure and failure.reason for failure in refused] == [None, same, Reason.REQUEST_ID_REUSED]


async def test_whatever_makes_other_vectors_is_in_the_digest_of_what_was_asked() -> None:
    asked = [
        LINE,
        replace(LINE, texts=("alphabeta",)),
        replace(LINE, texts=("alpha", "", "beta")),
        replace(LINE, purpose=Purpose.QUERY),
        replace(LINE, element=Element.INT8),
        replace(LINE, dimensions=64),
        replace(LINE, texts=(), tokens=((1, 2), (3,))),
        replace(LINE, texts=(), tokens=((1,), (2, 3))),
    ]
    assert len({(await receipt_of(wanted)).prompt_tokens_digest for wanted in asked}) == len(asked)
    assert await receipt_of(LINE) == await receipt_of(replace(LINE, no_store=True))
