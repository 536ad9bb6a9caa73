"""Adapters in a worker's host memory, with vLLM's own loading, registering and slots around them."""

import hashlib
import json
import threading
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from vllm.config.lora import LoRAConfig
from vllm.lora.model_manager import AdapterLRUCache, LRUCacheLoRAModelManager
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from services.generator.plugin import slots
from services.generator.plugin.identity import IDENTITY_FILE, WEIGHTS_FILE, Identity
from services.generator.plugin.memory import memory_of
from tests.stack import eventually

RANK, WIDTH, SLOTS = 4, 16, 2
PACKED = "model.layers.0.self_attn.qkv_proj"
PARTS = [f"model.layers.0.self_attn.{side}_proj" for side in "qkv"]


class Manager(LRUCacheLoRAModelManager):
    """vLLM's manager of slots over one module, without a model."""

    activate_adapter = slots._activating(LRUCacheLoRAModelManager.activate_adapter)
    _deactivate_adapter = slots._deactivating(LRUCacheLoRAModelManager._deactivate_adapter)

    def __init__(self, module):
        self.lora_config = LoRAConfig(max_loras=SLOTS, max_cpu_loras=SLOTS, lora_dtype=torch.bfloat16)
        self._registered_adapters = AdapterLRUCache(SLOTS, self.deactivate_adapter)
        self._active_adapters = AdapterLRUCache(SLOTS, self._deactivate_adapter)
        self.lora_index_to_id = [None] * SLOTS
        self.modules = {PACKED: module}
        self.packed_modules = {PACKED: PARTS}
        self.packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}
        self.supported_lora_modules = ["qkv_proj"]
        self.model = SimpleNamespace()
        self.is_pooling_model = self._enable_mixed_moe_lora_format = self._enable_moe_shared_loras = False
        self.moe_ep_load_spec = self._classification_head = self._pooling_task = None


class Worker(LRUCacheWorkerLoRAManager):
    """vLLM's manager in the worker."""

    _load_adapter = slots._loading(LRUCacheWorkerLoRAManager._load_adapter)

    def __init__(self, module):
        self._adapter_manager = Manager(module)
        self.lora_config = self._adapter_manager.lora_config
        self._lora_model_cls = self._model_class()
        self.max_position_embeddings, self.vocab_size = 128, 100

    @staticmethod
    def _model_class():
        from vllm.lora.lora_model import LoRAModel

        return LoRAModel


class Module:
    """Remembers what each slot was filled with."""

    def __init__(self):
        self.slots = {}

    def set_lora(self, slot, a, b):
        self.slots[slot] = ([part.clone() for part in a], [part.clone() for part in b])

    def reset_lora(self, slot):
        self.slots.pop(slot, None)


@pytest.fixture
def module():
    return Module()


@pytest.fixture
def worker(module):
    return Worker(module)


def written(folder, seed, alpha=8):
    """An adapter as the generator leaves it after checking; its version."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for part in PARTS:
        for side, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK))):
            tensors[f"base_model.model.{part}.lora_{side}.weight"] = torch.randn(shape, generator=draw).bfloat16()
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": alpha, "target_modules": ["q_proj", "k_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    digest = f"sha256:{hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()}"
    (folder / IDENTITY_FILE).write_text(Identity(digest, digest, RANK).text())
    return digest


def lifted(worker, engine_id, version, folder):
    memory_of(worker).lift(engine_id, f"m@{version}", str(folder))
    return eventually(lambda: memory_of(worker).lifted(engine_id), "it was read", 20)


def request(engine_id, version, folder):
    return LoRARequest(lora_name=f"m@{version}", lora_int_id=engine_id, lora_path=str(folder))


def test_what_was_lifted_fills_a_slot_with_the_same_values_though_its_file_is_gone(worker, module, tmp_path):
    version = written(tmp_path / "a", 1)
    worker.add_adapter(request(1, version, tmp_path / "a"))
    (straight,) = module.slots.values()
    worker.remove_adapter(1)
    weight_bytes, problem = lifted(worker, 2, version, tmp_path / "a")
    assert (weight_bytes, problem) == (3 * 2 * RANK * WIDTH * 2, "")
    assert memory_of(worker).kept() == {"2": weight_bytes}
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    worker.add_adapter(request(2, version, tmp_path / "a"))
    (again,) = module.slots.values()
    for before, after in zip(straight, again, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert slots.occupant(worker._adapter_manager, 0) == version
    assert memory_of(worker).kept() == {}


def test_no_tensor_in_memory_is_a_view_of_the_file(worker, tmp_path):
    version = written(
        tmp_path / "a", 1, alpha=RANK
    )  # A scaling of 1: nothing is multiplied, so nothing is copied by it.
    lifted(worker, 1, version, tmp_path / "a")
    model = memory_of(worker).take(1)
    weights = (tmp_path / "a" / WEIGHTS_FILE).resolve()
    assert model is not None
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if str(weights) in line]
    mapped = [(int(low, 16), int(high, 16)) for low, high in ranges]
    for layer in model.loras.values():
        for tensor in [*layer.lora_a, *layer.lora_b]:
            assert not any(low <= tensor.data_ptr() < high for low, high in mapped)
            assert tensor.untyped_storage().nbytes() == tensor.numel() * 2


def test_what_is_lowered_leaves_its_slot_empty_and_comes_back_as_it_was(worker, module, tmp_path):
    version = written(tmp_path / "a", 1)
    lifted(worker, 1, version, tmp_path / "a")
    worker.add_adapter(request(1, version, tmp_path / "a"))
    (before,) = module.slots.values()
    weight_bytes = memory_of(worker).lower(1)
    assert (module.slots, worker.list_adapters()) == ({}, set())
    assert slots.occupant(worker._adapter_manager, 0) == ""
    assert memory_of(worker).kept() == {"1": weight_bytes}
    worker.add_adapter(request(1, version, tmp_path / "a"))
    (after,) = module.slots.values()
    assert all(torch.equal(one, other) for one, other in zip(before[1], after[1], strict=True)), (
        "scaled once, not twice"
    )


def test_memory_may_hold_more_than_vllm_registers_and_vllm_evicts_nothing_of_it(worker, tmp_path):
    for engine_id in range(1, 6):
        folder = tmp_path / str(engine_id)
        lifted(worker, engine_id, written(folder, engine_id), folder)
    assert len(memory_of(worker).kept()) == 5
    memory_of(worker).drop(3)
    assert set(memory_of(worker).kept()) == {"1", "2", "4", "5"}


@pytest.mark.parametrize("damage", ["another byte", "another name", "no file", "cut off"])
def test_a_file_that_is_not_the_versions_is_refused_with_the_reason_and_nothing_stays(worker, tmp_path, damage):
    folder = tmp_path / "a"
    version = written(folder, 1)
    weights = folder / WEIGHTS_FILE
    if damage == "another byte":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    if damage == "another name":
        version = f"sha256:{'0' * 64}"
    if damage == "no file":
        weights.unlink()
    if damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:100])
    weight_bytes, problem = lifted(worker, 1, version, folder)
    assert weight_bytes == 0
    assert problem
    assert memory_of(worker).kept() == {}


def test_a_file_that_is_slow_to_read_holds_up_nobody(worker, tmp_path, monkeypatch):
    version = written(tmp_path / "a", 1)
    reading, go_on = threading.Event(), threading.Event()
    proven = Identity.proven

    def slow(folder):
        reading.set()
        assert go_on.wait(20)
        return proven(folder)

    monkeypatch.setattr(Identity, "proven", slow)
    memory_of(worker).lift(1, f"m@{version}", str(tmp_path / "a"))
    assert reading.wait(20)
    assert memory_of(worker).lifted(1) is None
    go_on.set()
    assert eventually(lambda: memory_of(worker).lifted(1), "it was read", 20)
