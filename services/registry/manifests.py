"""A version's manifest: the immutable text that says what the weights are and where they come from.

Invariant: the version's id is the SHA-256 of the canonical text, so whoever holds
the text and the files can check both without asking anybody.  The text names the
tenant and the model: equal weights of two tenants are two versions, and nothing
that is keyed by version (an engine's slot, a cached prefix) can be shared by them.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from services.chassis.errors import Failure, Reason

SCHEMA = "trivium.version/1"
_NOTHING: Mapping[str, object] = MappingProxyType({})

JsonMap = Mapping[str, object]


class Kind(StrEnum):
    """What a version's weights are."""

    LORA = "LORA"
    FULL = "FULL"
    ENCODER = "ENCODER"


class EncoderRole(StrEnum):
    """What an encoder makes: vectors of texts, or scores of pairs of texts."""

    EMBEDDER = "EMBEDDER"
    RERANKER = "RERANKER"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a version; ``sha256`` is 64 hexadecimal digits."""

    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One measurement of a version; ``dataset_digest`` is empty when no dataset is named."""

    metric: str
    value: float
    dataset_digest: str = ""
    dataset_rows: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from; empty fields mean it is not known or there is none.

    ``further_parents`` are versions beside ``parent_version`` that it was made from, for instance by averaging;
    ``base_digest`` is that of the base it was made from, which of a full model is another than its own.
    """

    job: str = ""
    dataset_digest: str = ""
    dataset_rows: int = 0
    parent_version: str = ""
    config: JsonMap = field(default_factory=lambda: _NOTHING)
    libraries: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    seed: int = 0
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    trained_tokens: int = 0
    code_version: str = ""
    evaluations: tuple[Evaluation, ...] = ()
    further_parents: tuple[str, ...] = ()
    base_uri: str = ""
    base_digest: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """Every version that it was made from, the one that training continued from first."""
        return tuple(dict.fromkeys(filter(None, (self.parent_version, *self.further_parents))))


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that determines a version.  ``rank``, ``parameters`` and an encoder's ``role`` are read from its files."""

    tenant: str
    model: str
    kind: Kind
    base_digest: str
    template_digest: str
    tokenizer_digest: str
    files: tuple[File, ...]
    lineage: Lineage
    rank: int = 0
    parameters: int = 0
    role: EncoderRole | None = None

    def canonical(self) -> str:
        """The one text of this manifest: sorted keys, no spaces, files by name.  Raises FIELD_INVALID."""
        lineage = self.lineage
        document = {
            "schema": SCHEMA,
            "tenant": self.tenant,
            "model": self.model,
            "kind": self.kind.value,
            "base_digest": self.base_digest,
            "template_digest": self.template_digest,
            "tokenizer_digest": self.tokenizer_digest,
            "rank": self.rank,
            "parameters": self.parameters,
            **({"role": self.role.value} if self.role is not None else {}),
            "files": [
                {"filename": item.filename, "sha256": item.sha256, "size_bytes": item.size_bytes}
                for item in sorted(self.files, key=lambda item: item.filename)
            ],
            "lineage": {
                "job": lineage.job,
                "dataset_digest": lineage.dataset_digest,
                "dataset_rows": lineage.dataset_rows,
                "parent_version": lineage.parent_version,
                "config": dict(lineage.config),
                "libraries": dict(lineage.libraries),
                "seed": lineage.seed,
                "metrics": dict(lineage.metrics),
                "trained_tokens": lineage.trained_tokens,
                **_later(lineage),
            },
        }
        _require_finite(document["lineage"])
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _later(lineage: Lineage) -> dict[str, object]:
    """Fields that later releases added: left out where empty, so that the text of what was there before is the same."""
    fields: dict[str, object] = {
        "code_version": lineage.code_version,
        "evaluations": [asdict(measured) for measured in lineage.evaluations],
        "further_parents": list(lineage.further_parents),
        "base_uri": lineage.base_uri,
        "base_digest": lineage.base_digest,
    }
    return {name: value for name, value in fields.items() if value}


def _lineage(document: dict[str, Any]) -> Lineage:
    evaluations = tuple(Evaluation(**measured) for measured in document.get("evaluations", ()))
    further = tuple(document.get("further_parents", ()))
    return Lineage(**{**document, "evaluations": evaluations, "further_parents": further})


def version_id(canonical: str) -> str:
    """The version's id: ``sha256:`` and the digest of its canonical manifest."""
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def parse(canonical: str) -> Manifest:
    """Read a manifest that this module wrote."""
    document = json.loads(canonical)
    return Manifest(
        tenant=document["tenant"],
        model=document["model"],
        kind=Kind(document["kind"]),
        base_digest=document["base_digest"],
        template_digest=document["template_digest"],
        tokenizer_digest=document["tokenizer_digest"],
        files=tuple(File(**item) for item in document["files"]),
        lineage=_lineage(document["lineage"]),
        rank=document["rank"],
        parameters=document["parameters"],
        role=EncoderRole(document["role"]) if "role" in document else None,
    )


def _require_finite(value: object, path: str = "lineage") -> None:
    """JSON has no NaN, so a manifest with one could not be read back."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Failure(Reason.FIELD_INVALID, field=path, problem="must be a finite number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_finite(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_finite(item, f"{path}[{index}]")
