"""A speed that nobody measured is guessed from the machine's products and what a token costs of them."""

from collections.abc import Mapping

import pytest

from services.trainer.needs import Architecture
from services.trainer.rough_speed import Rough, measure_with, token_operations
from services.trainer.settings import Method, Settings

SHAPE = Architecture(
    hidden_size=32, intermediate_size=64, layers=2, vocabulary=100, tied=True, linears={"q_proj": (32, 32)}
)
# More than a trainer has: these tests may run on a busy machine.
PATIENCE_SECONDS = 200.0
# Two layers of one product each, and the head.
WEIGHTS = 2 * 32 * 32 + 100 * 32


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        # Forward, and back to the activations; the adapter's own weights also have a gradient.
        (Settings(rank=4), 2 * (2 * WEIGHTS + 3 * 2 * 4 * (32 + 32))),
        (Settings(rank=4, method=Method.DORA), 2 * (2 * WEIGHTS + 3 * 2 * 4 * (32 + 32))),
        (Settings(method=Method.FULL), 2 * 3 * WEIGHTS),
        (Settings(method=Method.FULL, gradient_checkpointing=True), 2 * 4 * WEIGHTS),
    ],
    ids=["lora", "dora", "full", "checkpointing"],
)
def test_a_token_costs_what_its_passes_multiply(settings: Settings, operations: int) -> None:
    assert token_operations(SHAPE, settings) == operations


async def test_the_machine_is_measured_once_for_a_shape_and_in_the_dtype_that_a_job_computes_in() -> None:
    asked: list[tuple[int, int]] = []

    async def measure(inputs: int, outputs: int) -> Mapping[str, float]:
        asked.append((inputs, outputs))
        return {"bfloat16": 8e6, "float32": 2e6}

    rough, lora, full = Rough(measure), Settings(rank=4), Settings(method=Method.FULL)
    adapter, whole = [await rough.tokens_per_second(SHAPE, settings) for settings in (lora, full)]
    assert asked == [(32, 64)]
    assert adapter * token_operations(SHAPE, lora) == pytest.approx(4 * whole * token_operations(SHAPE, full))
    assert 0 < adapter * token_operations(SHAPE, lora) < 8e6


async def test_a_machine_that_cannot_be_measured_has_no_speed() -> None:
    # A shape that is none ends the process with an error.
    assert await measure_with(1, PATIENCE_SECONDS)(-1, 64) == {}
    # Nor has one that takes too long.
    assert await measure_with(1, 0.0)(32, 64) == {}


async def test_this_machine_multiplies_in_both_dtypes() -> None:
    found = await measure_with(1, PATIENCE_SECONDS)(32, 64)
    assert set(found) == {"bfloat16", "float32"}
    assert min(found.values()) > 1e6
