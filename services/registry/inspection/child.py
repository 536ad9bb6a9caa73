"""The child's whole program: limits first, then the task from standard input, one verdict to standard output.

The task is JSON: ``{"kind": "LORA" | "FULL" | "ENCODER" | "SOURCE", "files": {name: path}, "base_shapes": {...} | null}``; in place of the
shapes, ``"base_config"`` may name the path of the base's checked ``config.json``.  The numbers of a full model or an
encoder are all looked at up to ``"finite_bytes"``, beyond that a sample of as many.  Of a source only what it says of
itself is read, and the verdict's ``"kind"`` is what it is to be checked as.
The verdict is JSON: ``{"fit": true, "parameters": n, ...}`` or ``{"fit": false, "problem": "..."}``.
Exit code 0 stands for a verdict, anything else for none.
"""

import ctypes
import gc
import json
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from services.registry.inspection import Unfit
from services.registry.inspection.adapter import check_config, check_tensors, sorted_out
from services.registry.inspection.documents import parse_all
from services.registry.inspection.encoder import check_encoder, require_encoder_bounded
from services.registry.inspection.folder import check_texts
from services.registry.inspection.full import check_full
from services.registry.inspection.layout import modules
from services.registry.inspection.magnitudes import require_bounded
from services.registry.inspection.source import kind_of
from services.registry.inspection.tensors import Tensor, read_header, require_finite

_MEMORY_BYTES = 1536 * 1024 * 1024
_CPU_SECONDS = 120
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
# Keys by which a configuration asks its reader to import code that came with it.
_REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "auto_mapping", "custom_object_map")
# Vocabularies: their keys are tokens, which may be any text, and their reader knows no code.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")


def limit_this_process() -> None:
    """Bound memory, CPU and what can be written; no core file, no child of its own, few files.

    The child ends with its parent, so a killed registry leaves nothing running.
    """
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def judge(task: Mapping[str, object]) -> dict[str, object]:
    """Check all files of a version together.  Raises Unfit."""
    files = {name: Path(path) for name, path in _text_map(task["files"]).items()}
    parsed = parse_all({name: path for name, path in files.items() if name.endswith(".json")})
    for name, content in parsed.items():
        if name not in _VOCABULARIES:
            _refuse_remote_code(name, content)
    if task["kind"] == "SOURCE":
        return {"fit": True, "kind": kind_of(parsed)}
    weights = {name: read_header(name, path) for name, path in files.items() if name.endswith(".safetensors")}
    share = 1.0
    if task["kind"] == "LORA":
        verdict = _adapter(parsed, weights, _base_shapes(task))
        # A template that an adapter brings is the file; what a tokenizer's configuration says beside it is not read.
        check_texts(files, {})
    else:
        check = {"FULL": check_full, "ENCODER": check_encoder}[str(task["kind"])]
        verdict = check(files, parsed, weights)
        share = _share(files, task.get("finite_bytes"))
    for name, tensors in weights.items():
        require_finite(name, files[name], tensors, share)
    if task["kind"] == "LORA":
        _require_bounded(parsed, weights, files)
    elif task["kind"] == "ENCODER" and share:
        require_encoder_bounded(files, parsed, weights)
    return {"fit": True, **verdict}


def _share(files: Mapping[str, Path], finite_bytes: object) -> float:
    """Which part of the numbers is looked at, so that the time stays bounded whatever the model's size."""
    if not isinstance(finite_bytes, int):
        return 1.0
    whole = sum(path.stat().st_size for path in files.values())
    return min(1.0, finite_bytes / max(1, whole))


def _base_shapes(task: Mapping[str, object]) -> dict[str, tuple[int, int]] | None:
    if task.get("base_config"):
        config = parse_all({"config.json": Path(str(task["base_config"]))})["config.json"]
        return modules(config) if isinstance(config, dict) else None
    return _shapes(task.get("base_shapes"))


def _adapter(
    parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]], shapes: Mapping[str, tuple[int, int]] | None
) -> dict[str, object]:
    if set(weights) != {ADAPTER_WEIGHTS}:
        raise Unfit(f"an adapter has exactly one weights file, {ADAPTER_WEIGHTS}")
    if ADAPTER_CONFIG not in parsed:
        raise Unfit(f"an adapter needs {ADAPTER_CONFIG}")
    facts = check_tensors(check_config(parsed[ADAPTER_CONFIG]), weights[ADAPTER_WEIGHTS], shapes)
    return {
        "parameters": facts.parameters,
        "rank": facts.rank,
        "alpha": facts.alpha,
        "modules": len(facts.modules),
        "unservable": facts.unservable,
    }


def _require_bounded(
    parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]], files: Mapping[str, Path]
) -> None:
    tensors = weights[ADAPTER_WEIGHTS]
    modules, _ = sorted_out(tensors)
    require_bounded(ADAPTER_WEIGHTS, files[ADAPTER_WEIGHTS], tensors, modules, check_config(parsed[ADAPTER_CONFIG]))


def _refuse_remote_code(name: str, content: object) -> None:
    """Walk the whole document without recursion: depth is the uploader's choice."""
    pending = [content]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in _REMOTE_CODE:
                if item.get(key):
                    raise Unfit(f"{name}: the key {key} asks for code to be loaded, which is never done")
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _text_map(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("files must be an object")
    return {str(key): str(item) for key, item in value.items()}


def _shapes(value: object) -> dict[str, tuple[int, int]] | None:
    if not isinstance(value, dict):
        return None
    return {str(module): (int(shape[0]), int(shape[1])) for module, shape in value.items()}


def main() -> None:
    """Read one task, print one verdict."""
    limit_this_process()
    # Headers and vocabularies are hundreds of thousands of lists without a cycle, which the collector would walk again and
    # again: two fifths of the time that the largest header takes.
    gc.disable()
    task = json.load(sys.stdin)
    try:
        verdict = judge(task)
    except Unfit as unfit:
        verdict = {"fit": False, "problem": str(unfit)[:1000]}
    json.dump(verdict, sys.stdout)


if __name__ == "__main__":
    main()
