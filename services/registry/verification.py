"""Judges the files of a new version in a child process that can do little else.

Invariant: no byte of an upload is parsed in the process that holds the database and
the other tenants' files.  A child that dies, hangs or runs out of memory is a
refusal like any other.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis.blobs import Blobs
from services.chassis.errors import Failure, Reason
from services.chassis.processes import ask
from services.registry.manifests import EncoderRole, File, Kind

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from services.registry.inspection.child import main; main()"
# Everything the child may know of its surroundings.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_OUTPUT_BYTES = 64 * 1024
_SOURCE = "SOURCE"
# Of a full model so many bytes of numbers are looked at, of a larger one a sample of as many, at no slower a pace.
FINITE_BYTES = 4 * 1024**3
_SLOW_BYTES_PER_SECOND = 32 * 1024**2

Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the files themselves say; ``rank`` is 0 for all but an adapter, ``role`` None for all but an encoder.

    ``unservable_reason`` is why no engine loads an adapter as it is, empty for what engines load.
    """

    parameters: int
    rank: int = 0
    unservable_reason: str = ""
    role: EncoderRole | None = None


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What an adapter's base measures: [out, in] by module, or the digest of its ``config.json`` among the blobs."""

    shapes: Shapes | None = None
    config: str = ""


class Verification:
    """Runs the inspection, a few at a time; a large model's, which may take minutes, holds up no adapter's."""

    def __init__(self, blobs: Blobs, *, timeout_seconds: float, concurrent: int = 2) -> None:
        self._blobs = blobs
        self._timeout_seconds = timeout_seconds
        self._slots = {kind: asyncio.Semaphore(concurrent) for kind in Kind}

    async def inspect(self, kind: Kind, files: tuple[File, ...], base: BaseFacts) -> Findings:
        """Check all files of a version together.  Raises WEIGHTS_REFUSED with a sentence for the uploader."""
        async with self._slots[kind], AsyncExitStack() as stack:
            paths = {}
            for file in files:
                paths[file.filename] = await stack.enter_async_context(self._blobs.local(file.sha256))
            config = await stack.enter_async_context(self._blobs.local(base.config)) if base.config else ""
            task = {**_task(kind, paths), "base_shapes": base.shapes, "base_config": str(config)}
            verdict = await self._ask(task, sum(file.size_bytes for file in files))
        if not verdict.get("fit"):
            raise Failure(Reason.WEIGHTS_REFUSED, field="version.files", problem=str(verdict.get("problem", "")))
        return Findings(
            parameters=int(verdict["parameters"]),
            rank=int(verdict.get("rank", 0)),
            unservable_reason=str(verdict.get("unservable", "")),
            role=EncoderRole(verdict["role"]) if "role" in verdict else None,
        )

    async def kind_of(self, paths: Mapping[str, Path]) -> Kind:
        """Whether a source is a full model or an encoder, by the files that describe it.  Raises WEIGHTS_REFUSED."""
        told = {name: str(path) for name, path in paths.items()}
        async with self._slots[Kind.ENCODER]:
            return Kind(_passed(await self._ask({"kind": _SOURCE, "files": told}, 0))["kind"])

    async def glance(self, kind: Kind, paths: Mapping[str, Path]) -> None:
        """Check a whole model's files where they lie, all but its numbers: before they are copied.

        Raises WEIGHTS_REFUSED.  What is kept is inspected once more: these files may change.
        """
        async with self._slots[kind]:
            _passed(await self._ask({**_task(kind, paths), "finite_bytes": 0}, 0))

    async def _ask(self, task: Mapping[str, object], size_bytes: int) -> dict[str, Any]:
        timeout_seconds = self._timeout_seconds + min(size_bytes, FINITE_BYTES) / _SLOW_BYTES_PER_SECOND
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _PROGRAM, str(ROOT),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=ENVIRONMENT, cwd="/", start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(timeout_seconds):
                output = await ask(child, json.dumps(task, default=dict).encode())
        except TimeoutError:
            return {"fit": False, "problem": f"the check did not finish within {timeout_seconds:.0f} s"}
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0 or len(output) > _OUTPUT_BYTES:
            return {"fit": False, "problem": "the check ran out of memory or time on these files"}
        verdict: dict[str, Any] = json.loads(output)
        return verdict


def _passed(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict on a source.  Raises WEIGHTS_REFUSED."""
    if not verdict.get("fit"):
        raise Failure(Reason.WEIGHTS_REFUSED, problem=str(verdict.get("problem", "")))
    return verdict


def _task(kind: Kind, paths: Mapping[str, Path]) -> dict[str, object]:
    files = {name: str(path) for name, path in paths.items()}
    return {"kind": kind.value, "files": files, "finite_bytes": FINITE_BYTES}
