"""Our plugin with one fault at a time, read from a file before each step and each load."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.load.generator.planted import FAULT_FILE, witness
from tests.load.generator.planted.faults import BY_NAME, Where
from tests.load.generator.planted.twists import History, Step, off_by_one

_PRODUCTS_A_LAYER = 4
_ONE_LAYER = 2
_DOWN = 3
_LEAK = 0.1


class Planted:
    """The fault of the hour in this process."""

    def __init__(self) -> None:
        self._file = Path(os.environ[FAULT_FILE])
        self.history = History()
        self.step: Step | None = None
        self.name = ""
        self.plan: Any = None

    def read(self) -> str:
        """Which fault it is."""
        name = self._file.read_text()
        if name != self.name:
            self.history = History()
        self.name = name
        return name

    def at(self, where: Where) -> bool:
        """Whether the fault sits there."""
        return bool(self.name) and BY_NAME[self.name].where is where

    def is_(self, name: str) -> bool:
        """Whether it is this one."""
        return self.read() == name


def register() -> None:
    """Entry point of the plugin."""
    witness.register()
    if multiprocessing.parent_process() is None:
        return
    planted = Planted()
    _plant_in_steps(planted)
    _plant_in_products(planted)
    _plant_in_slots(planted)
    _plant_in_loading(planted)
    _plant_in_scheduler(planted)


def _wrap(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrapper(original)))


def _plant_in_steps(planted: Planted) -> None:
    from services.generator.plugin import attest
    from services.generator.plugin.rows import planned

    def recording(original: Any) -> Any:
        def record(runner: Any, ids: Any, scheduled: Any) -> None:
            planted.read()
            wrapper = attest._language_wrapper(runner)
            slots = wrapper.applied_slots(int(scheduled.sum()))
            capacity = len(runner.lora_manager._adapter_manager.lora_index_to_id)
            step = Step(slots, list(ids), np.cumsum(scheduled).tolist(), capacity, planted.history)
            planted.step = step
            fault = BY_NAME.get(planted.name)
            twisted = planned(fault.twist(step)) if fault and fault.twist else None
            planted.plan = twisted if fault and fault.twist else wrapper.plan
            if planted.at(Where.PLAN) and twisted is not None:
                wrapper.plan, wrapper.no_lora = twisted, False
            step.remember()
            if planted.name == "lying-attestation":
                planted.plan = planned(off_by_one(step)) or wrapper.plan
            if planted.name != "no-attestation":
                original(runner, ids, scheduled)

        return record

    _wrap(attest, "_record_step", recording)

    def occupied(original: Any) -> Any:
        def occupant(manager: Any, slot: int) -> str:
            if planted.name == "stamp-of-neighbour":
                slot = (slot + 1) % manager.lora_slots
            return str(original(manager, slot))

        return occupant

    _wrap(attest, "occupant", occupied)


def _plant_in_products(planted: Planted) -> None:
    import torch

    from services.generator.plugin.layers import NativeRows
    from services.generator.plugin.rows import planned

    numbers = itertools.count()

    def numbering(original: Any) -> Any:
        def init(self: Any, *args: Any) -> None:
            original(self, *args)
            self.planted_number = next(numbers)

        return init

    def adding(original: Any) -> Any:
        def add(self: Any, y: Any, x: Any, plan: Any, **kwargs: Any) -> None:
            layer, product = divmod(self.planted_number, _PRODUCTS_A_LAYER)
            step, name = planted.step, planted.name
            if planted.at(Where.PRODUCT) or name == "lying-attestation":
                plan = planted.plan
            next_slots = planned(off_by_one(step)) if step is not None and planted.at(Where.LAYER) else None
            if name == "one-layer-of-another" and layer == _ONE_LAYER:
                plan = next_slots or plan
            missing = (name == "one-layer-missing" and layer == _ONE_LAYER) or (
                name == "down-projections-missing" and product == _DOWN
            )
            if missing or plan is None:
                return
            original(self, y, x, plan, **kwargs)
            if name == "applied-twice":
                original(self, y, x, plan, **kwargs)
            if name == "neighbour-leaks" and next_slots is not None:
                leaked = torch.zeros_like(y)
                original(self, leaked, x, next_slots, **kwargs)
                y.add_(leaked, alpha=_LEAK)

        return add

    _wrap(NativeRows, "__init__", numbering)
    _wrap(NativeRows, "add", adding)


def _plant_in_slots(planted: Planted) -> None:
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA

    from services.generator.plugin.layers import NativeRows, _linear_classes

    def renewing(original: Any) -> Any:
        def renew(self: Any, slot: int) -> None:
            name, before = planted.read(), self._up[slot].clone()
            original(self, slot)
            _spoil(name, self, slot, before)

        return renew

    def clearing(original: Any) -> Any:
        def clear(self: Any, slot: int) -> None:
            if planted.read() not in ("stale-b", "slot-not-zeroed"):
                original(self, slot)

        return clear

    def resetting(original: Any) -> Any:
        def reset_lora(self: Any, index: int) -> None:
            if not planted.is_("slot-not-zeroed"):
                original(self, index)

        return reset_lora

    _wrap(NativeRows, "renew", renewing)
    _wrap(NativeRows, "clear", clearing)
    for kind in {kind for kind in _linear_classes(BaseLinearLayerWithLoRA) if "reset_lora" in vars(kind)}:
        _wrap(kind, "reset_lora", resetting)


def _spoil(name: str, rows: Any, slot: int, before: Any) -> None:
    """Spoil what a slot was just given; ``before`` is the copy of B that it held until then."""
    import torch

    if name == "stale-b":
        rows._up[slot] = before
    if name == "rank-dropped":
        rows._ranks[slot] = np.maximum(rows._ranks[slot] - 1, 0)
    if name == "slot-left-empty":
        rows._ranks[slot] = 0
    if name == "slices-exchanged" and len(rows._widths) > 1:
        width = int(rows._widths[-1])
        first = int(rows._widths[:-2].sum())
        both = rows._up[slot][:, first : first + 2 * width].clone()
        rows._up[slot][:, first : first + 2 * width] = torch.cat((both[:, width:], both[:, :width]), dim=1)


def _plant_in_loading(planted: Planted) -> None:
    from vllm.lora.worker_manager import WorkerLoRAManager

    def loading(original: Any) -> Any:
        def load(self: Any, request: Any) -> Any:
            name = planted.read()
            if name == "wrong-file":
                # Past the proof, which ours adds: vLLM's own loader.
                model = original.__wrapped__(self, _copied(request, _another(Path(request.lora_path))))
                model.trivium_version = request.lora_name.rpartition("@")[2]
                return model
            if name == "file-changed":
                return original(self, _copied(request, _damaged(Path(request.lora_path))))
            model = original(self, request)
            # What was lifted into host memory before is asked for a second time on its way into a slot.
            if name == "wrong-scale" and not hasattr(model, "trivium_owned"):
                for weights in model.loras.values():
                    weights.lora_b = weights.lora_b * 0.5
            return model

        return load

    _wrap(WorkerLoRAManager, "_load_adapter", loading)


def _copied(request: Any, folder: Path) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=request.lora_name, lora_int_id=request.lora_int_id, lora_path=str(folder))


def _another(folder: Path) -> Path:
    """The folder of the next version beside this one."""
    ours = sorted(path for path in folder.parent.iterdir() if path.is_dir() and path.suffix == "")
    return ours[(ours.index(folder) + 1) % len(ours)]


def _damaged(folder: Path) -> Path:
    """A copy of the folder with one bit of its weights turned over."""
    copy = Path(tempfile.mkdtemp(prefix="planted-")) / folder.name
    shutil.copytree(folder, copy)
    weights = copy / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return copy


def _plant_in_scheduler(planted: Planted) -> None:
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.core.sched.scheduler import Scheduler

    def lora_keys(original: Any) -> Any:
        def keys(request: Any) -> Any:
            return [] if planted.is_("cache-without-version") else original(request)

        return keys

    def all_keys(original: Any) -> Any:
        def keys(request: Any, *args: Any, **kwargs: Any) -> Any:
            found, place = original(request, *args, **kwargs)
            if planted.read() in ("cache-without-salt", "cache-without-version") and found:
                found = tuple(key for key in found if key[0] != "cache_salt") or None
            return found, place

        return keys

    def updating(original: Any) -> Any:
        def update_from_output(self: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = original(self, *args, **kwargs)
            if planted.is_("outputs-exchanged"):
                for client, batch in outputs.items():
                    outputs[client].outputs = _exchanged(batch.outputs)
            return outputs

        return update_from_output

    _wrap(kv_cache_utils, "_gen_lora_extra_hash_keys", lora_keys)
    _wrap(kv_cache_utils, "generate_block_hash_extra_keys", all_keys)
    _wrap(Scheduler, "update_from_output", updating)


def _exchanged(outputs: Any) -> Any:
    """The first two that only bring tokens, each under the other's name."""
    going_on = [place for place, output in enumerate(outputs) if output.finish_reason is None]
    if len(going_on) < 2:
        return outputs
    first, second = going_on[:2]
    changed = list(outputs)
    changed[first] = _renamed(outputs[first], outputs[second].request_id)
    changed[second] = _renamed(outputs[second], outputs[first].request_id)
    return changed


def _renamed(output: Any, request_id: str) -> Any:
    import msgspec

    if isinstance(output, msgspec.Struct):
        return msgspec.structs.replace(output, request_id=request_id)
    return replace(output, request_id=request_id)
