"""Nothing unverified reaches the engine: an adapter's bytes are judged in a limited child first.

Invariant: a folder that ``verify`` accepted holds weights that hash to the manifest's
digest (the caller saw to it), and whose child said fit.  A child that dies, stalls or
babbles has refused.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis.errors import Failure, Reason
from services.chassis.processes import ask, spawn
from services.generator.targets import chosen, module_shapes

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class BaseRules:
    """What a deployment allows: [out, in] of the modules that adapters may change, and the engine's largest rank."""

    widths: Mapping[str, tuple[int, int]]
    max_rank: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """An accepted adapter; ``config`` is what the engine may read."""

    rank: int
    parameters: int
    config: Mapping[str, Any]


def base_rules(base_folder: Path, max_rank: int, targets: Sequence[str] = ()) -> BaseRules:
    """What a base allows when adapters may change modules of these names, all linear ones without any.  Blocks.

    Raises ValueError for a name that the base does not have.
    """
    return BaseRules(chosen(module_shapes(base_folder), targets), max_rank)


async def verify(folder: Path, rules: BaseRules, seconds: float = _SECONDS) -> Verdict:
    """Judge the two files in ``folder``.  Raises WEIGHTS_REFUSED with the problem."""
    task = json.dumps({"folder": str(folder), "max_rank": rules.max_rank, "widths": rules.widths})
    pipe = asyncio.subprocess.PIPE
    child = await spawn(
        [sys.executable, "-m", "services.generator.inspection"],
        env=_environment(),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            told = await ask(child.process, task.encode())
        status = await child.wait()
        verdict = json.loads(told) if status == 0 else None
    except (TimeoutError, ValueError):
        verdict = None
    finally:
        if child.process.returncode is None:
            await asyncio.shield(child.kill())
    if not isinstance(verdict, dict):
        raise Failure(Reason.WEIGHTS_REFUSED, problem="they could not be read within the limits of the check")
    if not verdict["fit"]:
        raise Failure(Reason.WEIGHTS_REFUSED, problem=verdict["problem"])
    return Verdict(verdict["rank"], verdict["parameters"], verdict["config"])


def _environment() -> dict[str, str]:
    # One thread: the child's memory limit counts every thread's stack.
    return {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
