"""Where full models and encoders are imported from: ``file:PATH`` of folders that the deployment opens, ``hf:ORG/NAME@REVISION``.

Invariant: a caller's text opens no file outside of the folders that the settings name, by no path, link or kind of
file; and what cannot be read looks like what is not there.
"""

import asyncio
import json
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.processes import Child, say, spawn
from services.registry.inspection import encoder, full
from services.registry.inspection.folder import CONFIG
from services.registry.inspection.source import DESCRIBING

_REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_REVISION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")
_PICKLE = re.compile(r"^(pytorch_model|model|consolidated)\b.{0,200}\.(bin|pt|pth|ckpt|pkl)$")
_PASSED = ("PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_ROOT = Path(__file__).resolve().parents[2]
_MOST_DESCRIBING_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What a source holds of a full model or an encoder: its files' lengths by name, and the URI that pins them.

    ``beside`` are those that only describe it and are never taken, by their paths; ``pickle`` is weights beside them that
    are never read, empty for none.
    """

    uri: str
    sizes: Mapping[str, int]
    pickle: str = ""
    beside: Mapping[str, int] = field(default_factory=dict)

    def require_weights(self) -> None:
        """Raise MODEL_SOURCE_INVALID, with what to do.

        That is where there is nothing of a model, its weights are a pickle, or what describes it is no description.
        """
        if self.pickle and not any(name.endswith(".safetensors") for name in self.sizes):
            raise invalid(
                self.uri,
                f"it holds {self.pickle}, a pickle, which is never read, and no safetensors; load it where you trust it "
                "and write it anew: model.save_pretrained(FOLDER, safe_serialization=True)",
            )
        if not self.sizes:
            raise invalid(self.uri, "it holds no file of a full model or an encoder")
        for name, size_bytes in self.beside.items():
            if size_bytes > _MOST_DESCRIBING_BYTES:
                raise invalid(self.uri, f"{name} has over {_MOST_DESCRIBING_BYTES} bytes")


class Opened(Protocol):
    """A source, opened and read once."""

    @property
    def found(self) -> Found:
        """What it holds."""

    def present(self) -> Mapping[str, Path]:
        """Files that can be looked at before anything is copied, those beside the model too; empty when elsewhere."""

    def fetched(self) -> AsyncIterator[tuple[str, BinaryIO]]:
        """Each file, open at its beginning; where none is present, what describes the model before its weights.

        Raises MODEL_SOURCE_INVALID.
        """


class Sources:
    """Opens what a URI names."""

    def __init__(self, folders: Sequence[Path], *, hub: bool) -> None:
        self._folders = folders
        self._hub = hub

    def require_known(self, uri: str) -> None:
        """Raise MODEL_SOURCE_INVALID unless the URI is one that is imported from here, without touching anything."""
        scheme, _, rest = uri.partition(":")
        if scheme == "file" and rest:
            if not self._folders:
                raise invalid(uri, "this deployment imports from no folder (TRIVIUM_REGISTRY_IMPORT_FOLDERS)")
            return
        repository, _, revision = rest.partition("@")
        if scheme != "hf" or not _REPOSITORY.match(repository) or (revision and not _REVISION.match(revision)):
            raise invalid(uri, "write file:PATH or hf:ORG/NAME@REVISION")
        if not self._hub:
            raise invalid(uri, "this deployment imports nothing from the hub (TRIVIUM_REGISTRY_IMPORT_HUB)")

    @asynccontextmanager
    async def opened(self, uri: str, scratch: Path) -> AsyncIterator[Opened]:
        """The source behind ``uri``; what has to be fetched grows in ``scratch``.  Raises MODEL_SOURCE_INVALID."""
        self.require_known(uri)
        scheme, _, rest = uri.partition(":")
        if scheme == "file":
            yield await asyncio.to_thread(_Folder.read, uri, Path(rest), self._folders)
            return
        repository, _, revision = rest.partition("@")
        async with _hub(uri, repository, revision, scratch) as source:
            yield source


class _Folder:
    """A folder of this machine."""

    def __init__(self, uri: str, paths: Mapping[str, Path], roots: Sequence[Path], pickle: str) -> None:
        self._uri = uri
        self._paths = paths
        self._roots = roots
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        self.found = Found(uri, *_parted(sizes, pickle))

    @classmethod
    def read(cls, uri: str, folder: Path, folders: Sequence[Path]) -> "_Folder":
        """List what of the folder belongs to a model or describes it.  Blocks."""
        roots = [Path(os.path.realpath(root)) for root in folders]
        real = Path(os.path.realpath(folder))
        if not folder.is_absolute() or not _inside(real, roots) or not real.is_dir():
            # What is asked for below an open folder, in plain words, may be told from what lies elsewhere.
            if _inside(folder, [*folders, *roots]) and ".." not in folder.parts and _inside(real, roots):
                raise invalid(uri, "there is no such folder on the registry's machine")
            named = ", ".join(map(str, folders))
            raise invalid(uri, f"it is no folder below {named} (TRIVIUM_REGISTRY_IMPORT_FOLDERS)")
        paths = {}
        entries = sorted(os.listdir(real))
        describing = [name for name in DESCRIBING if os.path.lexists(real / name)]
        for entry in (*filter(_belongs, entries), *describing):
            with _opened(uri, entry, real / entry, roots) as file:
                paths[entry] = Path(os.path.realpath(f"/proc/self/fd/{file.fileno()}"))
        return cls(uri, paths, roots, _pickle(entries))

    def present(self) -> Mapping[str, Path]:
        """All of them."""
        return self._paths

    async def fetched(self) -> AsyncIterator[tuple[str, BinaryIO]]:
        """The model's, as they lie there; each is held to its place once more: it may have been exchanged since."""
        for name, path in self._paths.items():
            if name in self.found.beside:
                continue
            with _opened(self._uri, name, path, self._roots) as file:
                yield name, file


@contextmanager
def _opened(uri: str, name: str, path: Path, roots: Sequence[Path]) -> Iterator[BinaryIO]:
    """A regular file below one of ``roots``, wherever its name leads.  Raises MODEL_SOURCE_INVALID."""
    try:
        # Not blocking: a pipe that nobody writes to would hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise invalid(uri, f"{name} cannot be read") from None
    with os.fdopen(descriptor, "rb") as file:
        real = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _inside(real, roots):
            raise invalid(uri, f"{name} cannot be read")
        yield file


def _pickle(names: Sequence[str]) -> str:
    """The first file that holds weights as they were kept before safetensors; empty for none."""
    return next(filter(_PICKLE.match, names), "")


def _belongs(filename: str) -> bool:
    """Whether a whole model of either kind may hold a file of this name; which it is, is not known yet."""
    return full.belongs(filename) or encoder.belongs(filename)


def _parted(sizes: Mapping[str, int], pickle: str) -> tuple[dict[str, int], str, dict[str, int]]:
    """The last three fields of what was found: the model's files apart from those that describe it."""
    beside = {name: size_bytes for name, size_bytes in sizes.items() if name in DESCRIBING}
    return {name: size_bytes for name, size_bytes in sizes.items() if name not in beside}, pickle, beside


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    return any(path == root or path.is_relative_to(root) for root in roots)


class _Hub:
    """A repository of the hub at one commit, fetched by a child."""

    def __init__(self, uri: str, found: Found, child: Child, scratch: Path) -> None:
        self._uri = uri
        self.found = found
        self._child = child
        self._scratch = scratch

    def present(self) -> Mapping[str, Path]:
        """Nothing is here yet."""
        return {}

    async def fetched(self) -> AsyncIterator[tuple[str, BinaryIO]]:
        """As they arrive, what describes the model and the small ones first: what is refused spares the weights."""
        sizes = self.found.sizes
        wanted = [*self.found.beside, *sorted(sizes, key=lambda name: (name != CONFIG, sizes[name], name))]
        await _tell(self._child, {"wanted": wanted})
        for name in wanted:
            await _hear(self._uri, self._child)
            with (self._scratch / name).open("rb") as file:
                yield name, file


@asynccontextmanager
async def _hub(uri: str, repository: str, revision: str, scratch: Path) -> AsyncIterator[_Hub]:
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    child = await spawn(
        [sys.executable, "-m", "services.chassis.hub"],
        env={**environment, "PYTHONPATH": str(_ROOT), "HF_HOME": str(scratch / ".hub")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=16 * 1024 * 1024,
    )
    try:
        await _tell(child, {"repository": repository, "revision": revision, "folder": str(scratch)})
        listed = await _hear(uri, child)
        sizes = {str(name): int(size_bytes) for name, size_bytes in listed["files"]}
        wanted = {name: size for name, size in sizes.items() if _belongs(name) or name in DESCRIBING}
        found = Found(f"hf:{repository}@{listed['commit']}", *_parted(wanted, _pickle(list(sizes))))
        yield _Hub(uri, found, child, scratch)
    finally:
        await asyncio.shield(child.kill())


async def _tell(child: Child, message: Mapping[str, object]) -> None:
    assert child.process.stdin is not None
    # One that has ended is found out by who hears what it says.
    with suppress(ConnectionError):
        say(child.process, json.dumps(message).encode() + b"\n")
        await child.process.stdin.drain()


async def _hear(uri: str, child: Child) -> dict[str, Any]:
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"problem": "the fetch was ended"}
    if "problem" in answer:
        raise invalid(uri, str(answer["problem"]))
    return answer


def invalid(uri: str, problem: str) -> Failure:
    """The failure of a source, with what to do."""
    return Failure(Reason.MODEL_SOURCE_INVALID, uri=uri, problem=problem, name=uri, field="uri")
