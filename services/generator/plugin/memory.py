"""Adapters in a worker's host memory that no slot holds: read beside the steps, put into a slot by copying alone.

vLLM reads an adapter's file inside the engine's loop, where every running request waits for it, and has no way to take
one out of a slot but to forget it.  Here a thread of the worker reads and proves it, folds the scaling in and copies
it out of the mapped file; ``slots`` gives it to vLLM when it is to be loaded.  What leaves a slot can be taken back the
same way, without a look at the disk.

Invariants: which adapters lie here is decided by the service alone, nothing leaves on its own; an adapter lies here or
is registered with vLLM, never both; none of its tensors is a view of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from services.chassis.foreign import translated

if TYPE_CHECKING:
    import torch
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.worker_manager import WorkerLoRAManager

_MEMORY = "trivium_memory"
_OWNED = "trivium_owned"


class LiftRefused(Exception):
    """An adapter's file is not what it should be."""


class HostMemory:
    """One worker's lifted adapters, by id."""

    def __init__(self, manager: WorkerLoRAManager) -> None:
        self._manager = manager
        self._models: dict[int, LoRAModel] = {}
        self._lifting: dict[int, Future[int]] = {}
        # One reads at a time: two would only take turns on the interpreter's lock.
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lift")

    def lift(self, engine_id: int, name: str, folder: str) -> None:
        """Begin to read an adapter; :meth:`lifted` tells when it is there."""
        self._lifting[engine_id] = self._reader.submit(self._read, engine_id, name, folder)

    def _read(self, engine_id: int, name: str, folder: str) -> int:
        from vllm.lora.request import LoRARequest

        request = LoRARequest(lora_name=name, lora_int_id=engine_id, lora_path=folder)
        with translated(lambda error: LiftRefused(str(error))):
            model = self._manager._load_adapter(request)
            self._manager._adapter_manager._create_merged_loras_inplace(model)
        weight_bytes = _own(model)
        self._models[engine_id] = model
        return weight_bytes

    def lifted(self, engine_id: int) -> tuple[int, str] | None:
        """None while it is being read; then its bytes, or 0 and what is wrong with it."""
        lifting = self._lifting[engine_id]
        if not lifting.done():
            return None
        error = lifting.exception()
        return (0, str(error)) if isinstance(error, LiftRefused) else (lifting.result(), "")

    def take(self, engine_id: int) -> LoRAModel | None:
        """Give one away, to be registered with vLLM; None when it is not here."""
        model = self._models.pop(engine_id, None)
        if model is not None:
            self._lifting.pop(engine_id, None)
        return model

    def lower(self, engine_id: int) -> int:
        """Take one back from vLLM, which frees its slot; the bytes it takes.  Raises KeyError."""
        model = self._manager._adapter_manager._registered_adapters.cache[engine_id]
        self._manager.remove_adapter(engine_id)
        self._models[engine_id] = model
        return _own(model)

    def drop(self, engine_id: int) -> None:
        """Let one go."""
        self._lifting.pop(engine_id, None)
        self._models.pop(engine_id, None)

    def kept(self) -> dict[str, int]:
        """The bytes of everything that lies here, by id (as text: the ids are keys of a message)."""
        return {str(engine_id): sum(map(_bytes, _tensors(model))) for engine_id, model in list(self._models.items())}


def memory_of(manager: WorkerLoRAManager) -> HostMemory:
    """The worker's memory, made when it is first asked for."""
    memory: HostMemory | None = manager.__dict__.get(_MEMORY)
    if memory is None:
        memory = manager.__dict__[_MEMORY] = HostMemory(manager)
    return memory


def _layers(model: LoRAModel) -> Iterator[tuple[Any, str]]:
    for layer in model.loras.values():
        yield layer, "lora_a"
        yield layer, "lora_b"


def _tensors(model: LoRAModel) -> Iterator[torch.Tensor]:
    for layer, name in _layers(model):
        held = getattr(layer, name)
        yield from (each for each in (held if isinstance(held, list) else [held]) if each is not None)


def _bytes(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


def _own(model: LoRAModel) -> int:
    """Copy every tensor, once: vLLM leaves them views of the mapped file; the bytes of all."""
    if not getattr(model, _OWNED, False):
        for layer, name in _layers(model):
            held = getattr(layer, name)
            setattr(layer, name, [_copied(each) for each in held] if isinstance(held, list) else _copied(held))
        setattr(model, _OWNED, True)
    return sum(map(_bytes, _tensors(model)))


def _copied(tensor: torch.Tensor | None) -> torch.Tensor | None:
    # Pinned, it is a copy already.
    return tensor if tensor is None or tensor.is_pinned() else tensor.clone()


def install() -> None:
    """Teach the workers to lift, lower and drop: the service calls these by name."""
    from vllm.v1.worker.worker_base import WorkerBase

    def memory(worker: Any) -> HostMemory:
        return memory_of(worker.model_runner.lora_manager)

    WorkerBase.trivium_lift = lambda self, *told: memory(self).lift(*told)
    WorkerBase.trivium_lifted = lambda self, engine_id: memory(self).lifted(engine_id)
    WorkerBase.trivium_lower = lambda self, engine_id: memory(self).lower(engine_id)
    WorkerBase.trivium_drop = lambda self, engine_id: memory(self).drop(engine_id)
    WorkerBase.trivium_kept = lambda self: memory(self).kept()
