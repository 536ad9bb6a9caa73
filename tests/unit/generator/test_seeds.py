"""A token that vLLM throws away moves no request's generator, and needs none turned back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from services.generator.plugin.seeds import _sampling


def runner(discarded):
    """Two requests with seeds and one without; ``discarded`` says whose token is thrown away."""
    generators = {0: torch.Generator().manual_seed(1), 2: torch.Generator().manual_seed(2)}
    batch = SimpleNamespace(num_reqs=3, generators=generators)
    # The mask is as long as the largest batch; what lies behind the present one is old.
    mask = SimpleNamespace(np=np.array([*discarded, True]))
    return SimpleNamespace(input_batch=batch, discard_request_mask=mask)


def as_vllm(self):
    """Draw for each row, then turn back the generators whose token is thrown away."""
    drawn = {row: torch.rand(1, generator=generator) for row, generator in self.input_batch.generators.items()}
    for row in np.flatnonzero(self.discard_request_mask.np[: self.input_batch.num_reqs]):
        if (generator := self.input_batch.generators.get(int(row))) is not None:
            generator.set_offset(generator.get_offset() - 4)
    return drawn


def test_vllm_cannot_turn_a_generator_of_a_cpu_back():
    with pytest.raises(RuntimeError, match="offset"):
        as_vllm(runner([True, False, False]))


def test_the_request_that_is_not_done_reading_draws_nothing_and_the_others_draw():
    ours = runner([True, False, False])
    before = ours.input_batch.generators[0].get_state()
    drawn = _sampling(as_vllm)(ours)
    assert list(drawn) == [2]
    assert torch.equal(ours.input_batch.generators[0].get_state(), before)
    assert sorted(ours.input_batch.generators) == [0, 2]


def test_a_request_without_a_seed_may_be_discarded():
    assert sorted(_sampling(as_vllm)(runner([False, True, False]))) == [0, 2]


def test_generators_come_back_when_sampling_fails():
    def failing(self):
        raise RuntimeError("sampling failed")

    ours = runner([True, False, True])
    with pytest.raises(RuntimeError, match="sampling failed"):
        _sampling(failing)(ours)
    assert sorted(ours.input_batch.generators) == [0, 2]
