"""Which base a worker computes with: the digest of the folder that it has read its weights from.

The worker hashes the files itself, right after it loaded them, and every record of
``attest`` carries the result.  Invariant: what an answer says of its base never comes
from the settings, the request or anything remembered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.chassis.model_cache import read_digest

_DIGEST = "trivium_base"


def loaded_base(runner: Any) -> str:
    """Digest (sha256:…) of the folder that the runner loaded; empty before it did."""
    return str(getattr(runner, _DIGEST, ""))


def _loading(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def load_model(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        setattr(self, _DIGEST, read_digest(Path(self.model_config.model)))

    return load_model


def install() -> None:
    """Wrap the loading of the base in every runner that this platform has."""
    from vllm.platforms import current_platform
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if getattr(GPUModelRunner, "trivium_reads_base", False):
        return
    GPUModelRunner.trivium_reads_base = True
    GPUModelRunner.load_model = _loading(GPUModelRunner.load_model)
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        CPUModelRunner.load_model = _loading(CPUModelRunner.load_model)
