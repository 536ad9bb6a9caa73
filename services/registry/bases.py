"""The base models of this deployment: which adapters belong here, and what their modules measure.

Invariant: an adapter for another base is refused when its version is created, by
name, not minutes later by a generator.  A base whose files are not prepared yet is
not known, and what is not known refuses nobody: the generator is the second gate.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.models import resolve
from services.registry.inspection import Unfit
from services.registry.inspection.tensors import read_header
from services.registry.manifests import File

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Base:
    """A base model; ``folder`` holds its safetensors, or is None when only the digest is known.

    A full model of a tenant's has no folder here but a ``version``, and its files among the blobs.
    """

    name: str
    digest: str
    folder: Path | None = None
    version: str = ""
    files: tuple[File, ...] = ()


class Bases(Protocol):
    """Where the deployment's bases are looked up.  Blocks: called in a thread."""

    def known(self) -> Sequence[Base]:
        """The bases that are prepared now."""

    @property
    def certain(self) -> bool:
        """Whether :meth:`known` is all there is and every name is known; else the generator is the judge of names."""


def require_base(base_digest: str, known: Sequence[Base]) -> Base | None:
    """The base that an adapter belongs to; None when no base is known here.

    Raises FIELD_INVALID for something that is no digest, BASE_MISMATCH for a base that is not served.
    """
    if not DIGEST.match(base_digest):
        raise Failure(
            Reason.FIELD_INVALID, field="version.base_digest", problem="an adapter names its base as sha256:…"
        )
    if not known:
        return None
    for base in known:
        if base.digest == base_digest:
            return base
    names = ", ".join(base.name if base.name == base.digest else f"{base.name} ({base.digest})" for base in known)
    raise Failure(Reason.BASE_MISMATCH, name=base_digest, base=base_digest, known=names)


def module_shapes(base: Base | None) -> Mapping[str, tuple[int, int]] | None:
    """[out, in] of every linear and embedding module by its path; None when the files are not at hand.  Blocks."""
    if base is None or base.folder is None:
        return None
    shapes: dict[str, tuple[int, int]] = {}
    try:
        for path in sorted(base.folder.glob("*.safetensors")):
            for tensor in read_header(path.name, path):
                if tensor.name.endswith(".weight") and len(tensor.shape) == 2:
                    shapes[tensor.name.removesuffix(".weight")] = (tensor.shape[0], tensor.shape[1])
    except (OSError, Unfit):
        return None
    embedding = shapes.get("model.embed_tokens")
    if embedding is not None:
        # With tied weights the output layer has no tensor of its own.
        shapes.setdefault("lm_head", embedding)
    return shapes or None


class ResolvedBases:
    """Bases that the settings name by URI or digest; a URI counts once its model is prepared."""

    def __init__(self, names: Sequence[str]) -> None:
        self._unresolved = [name for name in names if not DIGEST.match(name)]
        self._known = [Base(name=name, digest=name) for name in names if DIGEST.match(name)]

    def known(self) -> Sequence[Base]:
        """The bases that were named by digest or have been resolved."""
        return tuple(self._known)

    @property
    def certain(self) -> bool:
        """Whether each was named by URI and has been resolved: one that is named by digest has no other name."""
        return not self._unresolved and all(base.name != base.digest for base in self._known)

    def resolve(self) -> None:
        """Resolve what is named by URI.  Blocks while a model is prepared.  Raises MODEL_SOURCE_INVALID."""
        for uri in list(self._unresolved):
            model = resolve(uri)
            self._known.append(Base(name=model.name, digest=model.digest, folder=model.path))
            self._unresolved.remove(uri)
