"""The child's whole program: limits first, then one merge, told in lines of JSON.

The task, from standard input: ``{"base": {name: path}, "adapter": {name: path}, "out": folder, "most_bytes": n}``.
Lines: ``{"done": bytes}`` now and then; at the end ``{"files": [[name, sha256, bytes], …], "code": version}`` or
``{"problem": text}``; "code" is the version of the code that merged.
Exit code 0 stands for either end, anything else for none.
"""

import errno
import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.chassis.code_version import code_version
from services.registry.inspection import Unfit
from services.registry.inspection.child import end_with_parent
from services.registry.inspection.folder import CONFIG, INDEX
from services.registry.merging.model import Merged, described, planned
from services.registry.merging.recipe import Recipe
from services.registry.merging.weights import Writing, write

_MEMORY_BYTES = 3 * 1024**3
_CPU_SECONDS = 6 * 3600
_SAY_EVERY_BYTES = 64 * 1024**2


def limit_this_process(most_bytes: int) -> None:
    """Bound memory, processor time and the length of a file; no core file, no child of its own."""
    end_with_parent()
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))


class _Meter:
    def __init__(self) -> None:
        self._done = self._said = 0

    def counted(self, recipe: Recipe) -> Iterator[bytes]:
        for piece in recipe.pieces():
            yield piece
            self._done += len(piece)
            if self._done - self._said >= _SAY_EVERY_BYTES:
                self._said = self._done
                _say({"done": self._done})


def merge(base: Mapping[str, Path], adapter: Mapping[str, Path], out: Path) -> list[tuple[str, str, int]]:
    """Write the merged model's files, durably; name, digest and length of each.  Raises Unfit."""
    merged, meter = planned(base, adapter), _Meter()
    files = []
    for name, recipes in merged.shards.items():
        # A shard that lost a tensor may be the only one that is left.
        named = name if merged.index is not None else "model.safetensors"
        writings = [Writing(item.name, item.dtype, item.shape, meter.counted(item)) for item in recipes]
        files.append((named, *write(out / named, writings)))
    return files + [(name, *_kept(out / name, content)) for name, content in _texts(merged)]


def _texts(merged: Merged) -> Iterator[tuple[str, bytes]]:
    for name, path in sorted(merged.copied.items()):
        if name == CONFIG and merged.config is not None:
            yield name, described(merged.config)
        else:
            yield name, path.read_bytes()
    if merged.index is not None:
        yield INDEX, described(merged.index)


def _kept(path: Path, content: bytes) -> tuple[str, int]:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest(), len(content)


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read one task, do it, tell."""
    task = json.load(sys.stdin)
    end_with_parent()
    # Now, and not when the version waits for it; and before the limits, which allow no child that could be asked.
    code = code_version()
    limit_this_process(int(task["most_bytes"]))
    base, adapter = ({name: Path(path) for name, path in task[key].items()} for key in ("base", "adapter"))
    try:
        _say({"files": merge(base, adapter, Path(task["out"])), "code": code})
    except Unfit as unfit:
        _say({"problem": str(unfit)[:1000]})
    except OSError as error:
        if error.errno == errno.EFBIG:
            _say({"problem": f"a file of it would be over the {task['most_bytes']} bytes that one may have here"})
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say({"problem": "", "full": True})
        else:
            raise


if __name__ == "__main__":
    main()
