"""Embeddings and logits of adapters against the plain formula in fp32, and what vLLM's own path does to base rows."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from vllm.config.lora import LoRAConfig
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from services.generator.plugin.punica import GroupedPunicaWrapper
from services.generator.plugin.rows import NO_SLOT, planned, rows_of_embedding
from tests.unit.generator.test_rows import MIXES

SLOTS, RANK, HIDDEN, VOCABULARY = 4, 8, 24, 50
IDS = [31, None, 7, 12]  # what the slots hold


def wrapper(**config):
    return GroupedPunicaWrapper(
        256, 64, "cpu", max_loras=SLOTS, lora_config=LoRAConfig(max_loras=SLOTS, max_lora_rank=RANK, **config)
    )


def laid_out(slots, prefill=False):
    """A wrapper that was told the rows of a step, of which each is sampled."""
    held = [31, 5, 7, 12]
    ids = tuple(held[slot] if slot != NO_SLOT else 0 for slot in slots)
    ours = wrapper(target_modules=["lm_head"])
    ours.update_metadata(LoRAMapping(ids, ids, is_prefill=prefill), held, SLOTS, VOCABULARY)
    return ours


def weights(rows, columns, used, dtype):
    generator = torch.Generator().manual_seed(rows)
    a = torch.randn(SLOTS, 1, RANK, columns, generator=generator)
    b = torch.randn(SLOTS, 1, rows, RANK, generator=generator)
    # Of a smaller rank than the slot's, the rest is zeros.
    a[:, :, used:] = 0
    return a.to(dtype), b.to(dtype)


def close(found, expected, dtype):
    bound = 1e-4 if dtype is torch.float32 else 0.03 * float(expected.abs().max())
    assert (found.float() - expected).abs().max() < bound


@pytest.mark.parametrize(("dtype", "used"), [(torch.float32, 3), (torch.float32, RANK), (torch.bfloat16, RANK)])
@pytest.mark.parametrize("mix", MIXES)
def test_logits_equal_the_plain_formula_and_base_rows_keep_every_bit(mix, used, dtype):
    slots = MIXES[mix]
    a, b = weights(VOCABULARY, HIDDEN, used, dtype)
    x, y = torch.randn(len(slots), HIDDEN).to(dtype), torch.randn(len(slots), VOCABULARY).to(dtype)
    expected, before = y.float().clone(), y.clone()
    for row, slot in enumerate(slots):
        if slot != NO_SLOT:
            expected[row] += b[slot, 0].float() @ (a[slot, 0].float() @ x[row].float())
    laid_out(slots).add_lora_logits(y, x, a, b, 1.0)
    close(y, expected, dtype)
    base = torch.tensor(slots) == NO_SLOT
    assert torch.equal(y[base], before[base])


@pytest.mark.parametrize(("dtype", "used"), [(torch.float32, 3), (torch.float32, RANK), (torch.bfloat16, RANK)])
@pytest.mark.parametrize("mix", MIXES)
def test_embeddings_equal_the_plain_formula_and_base_rows_keep_every_bit(mix, used, dtype):
    slots = MIXES[mix]
    a, b = weights(HIDDEN, VOCABULARY, used, dtype)
    table = a[:, 0].transpose(1, 2).contiguous()  # [slots, vocabulary, rank], as vLLM keeps it
    ids = torch.randint(VOCABULARY, (len(slots),))
    y = torch.randn(len(slots), HIDDEN).to(dtype)
    expected, before = y.float().clone(), y.clone()
    for row, slot in enumerate(slots):
        if slot != NO_SLOT:
            expected[row] += b[slot, 0].float() @ a[slot, 0, :, ids[row]].float()
    plan = planned(np.array(slots))
    if plan is not None:
        laid_out(slots, prefill=len(slots) > 8).add_lora_embedding(y, rows_of_embedding(ids, table, plan), b)
    close(y, expected, dtype)
    base = torch.tensor(slots) == NO_SLOT
    assert torch.equal(y[base], before[base])


def test_logits_of_rows_that_were_not_to_be_sampled_are_an_error_and_not_somebody_elses():
    ours = laid_out([2, -1])
    a, b = weights(VOCABULARY, HIDDEN, RANK, torch.float32)
    with pytest.raises(ValueError, match="3 rows"):
        ours.add_lora_logits(torch.zeros(3, VOCABULARY), torch.zeros(3, HIDDEN), a, b, 1.0)


def test_after_a_step_of_the_base_alone_nothing_is_added():
    ours = laid_out([2, 2])
    ours.select_base()
    a, b = weights(VOCABULARY, HIDDEN, RANK, torch.float32)
    y = torch.randn(2, VOCABULARY)
    before = y.clone()
    ours.add_lora_logits(y, torch.ones(2, HIDDEN), a, b, 1.0)
    assert torch.equal(y, before)


def test_an_engine_that_would_wrap_every_module_is_refused():
    with pytest.raises(ValueError, match="lora_target_modules"):
        wrapper()


def test_vllms_own_path_adds_the_last_slots_adapter_to_the_rows_of_the_base():
    """When this goes red, vLLM has mended it: read the new version before the pin moves (``plugin.VLLM_VERSION``)."""
    stock = PunicaWrapperCPU(256, 64, "cpu")
    stock.update_metadata(LoRAMapping((0, 7), (0, 7), is_prefill=False), IDS, SLOTS, VOCABULARY)
    a, b = weights(VOCABULARY, HIDDEN, RANK, torch.float32)
    x, y = torch.randn(2, HIDDEN), torch.zeros(2, VOCABULARY)
    last = x[0] @ a[SLOTS - 1, 0].t() @ b[SLOTS - 1, 0].t()
    stock.add_lora_logits(y, x, a, b, 1.0)
    torch.testing.assert_close(y[0], last, rtol=1e-4, atol=1e-4)
    y = torch.zeros(2, VOCABULARY)
    stock.add_lora_linear(y, x, (a,), (b,), 1.0, (VOCABULARY,))
    torch.testing.assert_close(y[0], last, rtol=1e-4, atol=1e-4)
    table = torch.randn(2, RANK)
    y = torch.zeros(2, VOCABULARY)
    stock.add_lora_embedding(y, table, b)
    torch.testing.assert_close(y[0], table[0] @ b[SLOTS - 1, 0].t(), rtol=1e-4, atol=1e-4)


ON_A_GPU = """
from vllm.platforms import current_platform
current_platform.__class__.is_cpu = lambda self: False
import vllm.lora.layers
from vllm.lora.layers import VocabParallelEmbeddingWithLoRA
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from services.generator.plugin import compiling, layers
before = BaseLinearLayerWithLoRA.apply, VocabParallelEmbeddingWithLoRA.forward
layers.install()
compiling.install()
assert (BaseLinearLayerWithLoRA.apply, VocabParallelEmbeddingWithLoRA.forward) == before
"""


# A process that imports vLLM anew: twenty seconds.
@pytest.mark.sampled(every=3, family="long tests of tests/unit/generator")
def test_on_a_gpu_vllms_own_layers_and_kernels_stay():
    """The CPU's path would ask the GPU's bookkeeping for a plan that it does not have."""
    ended = subprocess.run([sys.executable, "-c", ON_A_GPU], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
