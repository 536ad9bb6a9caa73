"""What occupies each slot: an identity that travels with the weights themselves.

The adapter folder carries ``identity.json``, written by the service after it checked
every byte.  The worker re-hashes the weights that it is about to load, compares, and
stamps the loaded tensors with the version named *there*; copying them into a slot
copies the stamp, freeing the slot erases both.  Invariant: a slot's stamp never comes
from the request that asked for it, and a slot without a stamp holds zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.generator.plugin.identity import Identity, IdentityMismatch
from services.generator.plugin.memory import memory_of

if TYPE_CHECKING:
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.worker_manager import WorkerLoRAManager

_STAMP = "trivium_version"
_OCCUPANTS = "trivium_occupants"


def occupant(manager: LoRAModelManager, slot: int) -> str:
    """Version whose weights fill ``slot``; empty when it was never stamped."""
    return str(getattr(manager, _OCCUPANTS, {}).get(slot, ""))


def _loading(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(self: WorkerLoRAManager, lora_request: Any) -> Any:
        lifted = memory_of(self).take(lora_request.lora_int_id)
        if lifted is not None:
            return lifted
        version = Identity.proven(Path(lora_request.lora_path)).version
        if version != lora_request.lora_name.rpartition("@")[2]:
            raise IdentityMismatch(f"{lora_request.lora_name} was asked for, the folder holds {version}")
        model = original(self, lora_request)
        setattr(model, _STAMP, version)
        return model

    return load


def _activating(original: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def activate(self: LoRAModelManager, lora_id: int) -> bool:
        copied = None
        try:
            copied = original(self, lora_id)
        finally:
            if copied is None:
                # It was interrupted: a slot that was written half belongs to nobody.
                self._deactivate_adapter(lora_id)
                self._active_adapters.pop(lora_id, None)
        if copied:
            slot = self.lora_index_to_id.index(lora_id)
            occupants = self.__dict__.setdefault(_OCCUPANTS, {})
            occupants[slot] = getattr(self._registered_adapters[lora_id], _STAMP, "")
        return copied

    return activate


def _erase(manager: LoRAModelManager, slot: int) -> None:
    manager.__dict__.setdefault(_OCCUPANTS, {}).pop(slot, None)
    for module in manager.modules.values():
        module.reset_lora(slot)


def _deactivating(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def deactivate(self: LoRAModelManager, lora_id: int) -> None:
        held = self.lora_index_to_id.index(lora_id) if lora_id in self.lora_index_to_id else None
        original(self, lora_id)
        if held is not None:
            _erase(self, held)

    return deactivate


def _clearing(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def clear(self: LoRAModelManager) -> None:
        original(self)
        for slot in range(self.lora_slots):
            _erase(self, slot)

    return clear


def install() -> None:
    """Wrap loading, activation and freeing of adapters in the worker."""
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.worker_manager import WorkerLoRAManager

    if getattr(LoRAModelManager, "trivium_installed", False):
        return
    LoRAModelManager.trivium_installed = True
    WorkerLoRAManager._load_adapter = _loading(WorkerLoRAManager._load_adapter)
    LoRAModelManager.activate_adapter = _activating(LoRAModelManager.activate_adapter)
    LoRAModelManager._deactivate_adapter = _deactivating(LoRAModelManager._deactivate_adapter)
    LoRAModelManager.remove_all_adapters = _clearing(LoRAModelManager.remove_all_adapters)
