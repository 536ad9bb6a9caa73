"""Models, versions and aliases.  As `nouns`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A named line of versions; `keep_last` and `keep_days` bound which are kept, 0 bounds nothing.

    `examples` are questions that it is for, empty in lists; `fallback` names what answers where it cannot.
    """

    model: str
    description: str
    etag: str
    labels: dict[str, str]
    create_time: datetime | None
    task: str = ""
    keep_last: int = 0
    keep_days: int = 0
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    card: str = ""
    examples: tuple[str, ...] = ()
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class VersionFile:
    """One file of a version."""

    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One measurement of a version; `dataset_digest` is empty when no dataset was named."""

    metric: str
    value: float
    dataset_digest: str = ""
    dataset_rows: int = 0
    note: str = ""
    principal: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where an uploaded version comes from, as whoever made it says; `config` is what JSON can hold.

    `base_digest` is that of the model that it began as, `parent_version` that version of yours; `dataset_digest` and
    `dataset_rows` are of what it was trained on.  `evaluations` count as recorded with it.
    """

    base_digest: str = ""
    base_uri: str = ""
    parent_version: str = ""
    dataset_digest: str = ""
    dataset_rows: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    code_version: str = ""
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable version; `version` is sha256:… of its manifest, `kind` lora, full or encoder.

    `role` is what an encoder makes: embedder or reranker; empty for anything else.

    `unservable_reason` says why no engine loads it as it is; `merge` makes a full model of it that one does.
    `base_version` is that of an own full model that an adapter belongs to; `base_digest` of a full model is its own, and
    `lineage_base_digest` that of the base that it was made from.  `code_version` and `libraries` made it, with
    `seed`; an empty `template_digest` or `tokenizer_digest` is that of the base.  What lists leave out is empty there:
    evaluations and `base_version`.
    """

    model: str
    version: str
    number: int
    kind: str
    base_digest: str
    rank: int
    files: tuple[VersionFile, ...]
    job: str
    dataset_digest: str
    parent_version: str
    config: dict[str, Any]
    metrics: dict[str, float]
    trained_tokens: int
    create_time: datetime | None
    tags: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    further_parents: tuple[str, ...] = ()
    code_version: str = ""
    base_uri: str = ""
    lineage_base_digest: str = ""
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    unservable_reason: str = ""
    base_version: str = ""
    template_digest: str = ""
    tokenizer_digest: str = ""
    parameters: int = 0
    dataset_rows: int = 0
    seed: int = 0
    libraries: dict[str, str] = field(default_factory=dict)
    role: str = ""


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that gets `percent` of an alias's requests while `state` is serving, not while pending or failed."""

    version: str
    number: int
    percent: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version; `state` is serving, pending or failed, and `reason` says why it does not serve its target.

    `kind` is that of its target: lora, full or encoder.
    """

    model: str
    alias: str
    target_version: str
    serving_version: str
    state: str
    reason: str
    etag: str
    update_time: datetime | None
    previous_version: str = ""
    canaries: tuple[Canary, ...] = ()
    kind: str = ""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One thing that happened to an alias; `kind` is set, rollback, canary, delete or refused (by a gate).

    `percent` is a canary's share from then on; `reason` is what whoever asked said, `detail` what gates found.
    """

    number: int
    from_version: str
    to_version: str
    principal: str
    create_time: datetime | None
    kind: str = ""
    percent: int = 0
    reason: str = ""
    detail: str = ""
