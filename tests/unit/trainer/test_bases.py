"""A tenant's own base: what it may be ordered for is the arithmetic of the order, not of the base."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from trivium.trainer.v1 import training_pb2

from services.chassis.full_models import FullModels
from services.chassis.model_cache import digest_of
from services.chassis.streams import Chunk, Piece
from services.trainer.bases import Bases, OwnBase
from services.trainer.planning import Allowance, unfit
from services.trainer.row_needs import Data
from services.trainer.scheduling.state import Node
from services.trainer.wire_jobs import order

GIB = 1024**3
# 3.5 thousand million weights.
CONFIG = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "vocab_size": 32_000,
}


class Registry:
    """One full model, whose weights nobody may ask for."""

    def __init__(self) -> None:
        self._files = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "model.safetensors": b"w"}
        self._digests = {name: hashlib.sha256(content).hexdigest() for name, content in self._files.items()}
        document = {
            "kind": "FULL",
            "model": "house",
            "tenant": "acme",
            "base_digest": digest_of(self._digests),
            "lineage": {},
            "files": [
                {"filename": name, "sha256": sha256, "size_bytes": len(self._files[name])}
                for name, sha256 in self._digests.items()
            ],
        }
        self._manifest = json.dumps(document)
        self._version = f"sha256:{hashlib.sha256(self._manifest.encode()).hexdigest()}"

    async def base(self, name: str) -> OwnBase | None:
        return await self.own(self._version)

    async def own(self, version: str) -> OwnBase:
        return OwnBase("house@1", self._version, self._manifest)

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        (name,) = [name for name, digest in self._digests.items() if digest == sha256]
        assert name != "model.safetensors"
        yield Piece(offset, self._files[name][offset:])

    def acting_for(self, tenant: str, principal: str) -> AbstractAsyncContextManager[object]:
        raise AssertionError("nobody is acted for")


@pytest.fixture
def bases(tmp_path: Path) -> Bases:
    return Bases((), Registry(), FullModels(tmp_path), threads=1, data_dir=tmp_path, serving_rank=64)


async def refusal(bases: Bases, method: str, gib: int) -> str:
    """Why a job on the base could never be trained on machines of which the largest has so much; empty when it could."""
    chosen = await bases.chosen("base:house")
    settings = training_pb2.TrainingSettings(
        method=training_pb2.Method.Value(f"METHOD_{method}"), gradient_checkpointing=True
    )
    wanted = training_pb2.CreateJobRequest(model="m", dataset="d", settings=settings)
    ordered = bases.completed(order(wanted, chosen, None, Allowance()), chosen, Data())
    return unfit(ordered, [Node("small", 1 * GIB, 2), Node("large", gib * GIB, 2)], Allowance())


@pytest.mark.parametrize("method", ["LORA", "QLORA"])
async def test_a_base_that_the_order_fits_on_is_taken_however_much_another_method_would_need(
    bases: Bases, method: str
) -> None:
    assert await refusal(bases, method, 12) == ""


@pytest.mark.parametrize(("method", "gib"), [("FULL", 12), ("LORA", 6), ("QLORA", 2)])
async def test_a_base_that_the_order_does_not_fit_on_is_refused_with_the_arithmetic(
    bases: Bases, method: str, gib: int
) -> None:
    assert f"the largest machine gives training {gib}.0 GiB" in await refusal(bases, method, gib)


async def test_rows_are_encoded_with_a_tenants_base_without_its_weights(bases: Bases) -> None:
    async with bases.folder("base:house") as (name, folder):
        assert name == "house@1"
        assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json"}
    assert not folder.exists()
