"""The model cache: prepared folders under the digest of their source, digests computed once.

Invariant: a folder gets its name only when it is complete and on disk, and one
process prepares it while the others wait; a crash leaves a temporary folder that the
next attempt removes.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, publish, sync_tree, write_atomically
from services.chassis.processes import die_with_parent

# De-quantised to bf16, a 4-bit file grows about threefold; a little more for the rest.
_GROWTH = 4
# Raise when the way of preparing changes, so that old folders are not taken for new ones.
_RECIPE = 1


def prepared(source: Path, name: str, cache: Path, progress: Callable[[str], None]) -> Path:
    """The folder made from the GGUF at ``source``; made now if it is not there.

    Raises DISK_FULL, or MODEL_SOURCE_INVALID when the file cannot be read.
    """
    with disk_full_named(cache):
        cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{file_digest(source, cache)[:16]}-{_RECIPE}"
    if folder.is_dir():
        return folder
    with _locked(cache / f".{folder.name}.lock"):
        if folder.is_dir():
            return folder
        if shutil.disk_usage(cache).free < source.stat().st_size * _GROWTH:
            raise Failure(Reason.DISK_FULL, what=f"the model cache {cache}")
        for leftover in cache.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        progress(f"de-quantising {source.name}, once, about half a minute")
        temporary = cache / f".{folder.name}.{os.getpid()}.tmp"
        try:
            temporary.mkdir()
            _dequantise(source, temporary, cache)
            with disk_full_named(cache):
                sync_tree(temporary)
            publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _dequantise(source: Path, folder: Path, cache: Path) -> None:
    command = [sys.executable, "-m", "services.chassis.gguf", str(source), str(folder)]
    root = Path(__file__).resolve().parents[2]
    parent = os.getpid()
    child = subprocess.run(
        command, cwd=root, capture_output=True, text=True, preexec_fn=lambda: die_with_parent(parent)
    )
    if child.returncode == errno.ENOSPC:
        raise Failure(Reason.DISK_FULL, what=f"the model cache {cache}")
    if child.returncode:
        said = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise Failure(Reason.MODEL_SOURCE_INVALID, uri=source.name, problem=said, name=source.name)


def file_digest(path: Path, cache: Path) -> str:
    """SHA-256 (hex) of a file, remembered under its size, times and place on the disk."""
    return _remembered(cache, path, [path], lambda: _sha256(path))


def folder_digest(folder: Path, cache: Path) -> str:
    """``sha256:…`` over the names and bytes of a model folder, remembered in the cache.

    Hidden files and README do not count: they do not change what the model computes.
    """

    def compute() -> str:
        return read_digest(folder).removeprefix("sha256:")

    return f"sha256:{_remembered(cache, folder, _counted(folder), compute)}"


def read_digest(folder: Path) -> str:
    """The same, from the bytes as they are now: nothing remembered is believed."""
    return digest_of({path.relative_to(folder).as_posix(): _sha256(path) for path in _counted(folder)})


def _counted(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() != ".md"
    )


def digest_of(files: Mapping[str, str]) -> str:
    """``sha256:…`` of a model folder, from the SHA-256 (64 hexadecimal digits) of each file by its path in it."""
    whole = hashlib.sha256()
    for name in sorted(files, key=lambda name: name.split("/")):
        whole.update(f"{name}\0{files[name]}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(cache: Path, subject: Path, files: list[Path], compute: Callable[[], str]) -> str:
    """``compute()``, or what it gave for the same files, of which nothing says that they were touched since."""
    stats = [(str(path), *_traces(path.stat())) for path in files]
    key = hashlib.sha256(json.dumps([str(subject), stats]).encode()).hexdigest()
    record = cache / "digests" / f"{key[:32]}.json"
    try:
        stored = json.loads(record.read_text())["sha256"]
        return str(stored)
    except (OSError, ValueError, KeyError):
        digest = compute()
    with disk_full_named(cache):
        record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps({"sha256": digest, "of": str(subject)}).encode())
    return digest


def _traces(stat: os.stat_result) -> tuple[int, ...]:
    # Whoever edits a file can give it its old time back (rsync -t, cp -p), but not that of the change of its entry.
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
