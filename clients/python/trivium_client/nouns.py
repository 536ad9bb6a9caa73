"""What calls return: frozen records in plain Python types.  Times are aware datetimes in UTC, None where unset."""

from dataclasses import dataclass, field
from datetime import datetime

from trivium_client.corpus_nouns import Citation, Group, MatchingDocument, Statement, Summary, Tally
from trivium_client.document_nouns import (
    Answerability,
    Calibration,
    Collection,
    Document,
    DocumentText,
    Findings,
    Hit,
    IndexBuild,
    ListPlace,
    QuestionProgress,
    Reembedding,
    Reranking,
    SearchExpansion,
    SearchSettings,
    Span,
    TuningReport,
    TuningTrial,
)
from trivium_client.folder_nouns import FolderReport, RefusedFile
from trivium_client.job_nouns import (
    Checkpoint,
    FilledRecipe,
    Job,
    JobEstimate,
    JobEvent,
    JobFields,
    LoraSettings,
    PreferenceSettings,
    PublishedCheckpoint,
    Recipe,
    RecipeOrder,
    Sweep,
    SweepAxis,
    SweepEstimate,
    SweepMember,
    SweepRange,
    TrainingSettings,
)
from trivium_client.model_nouns import Alias, AliasMove, Canary, Evaluation, Lineage, Model, Version, VersionFile
from trivium_client.serving_nouns import Adapter, Engine, Route, ScoredModel, ServedModel, TierUsage
from trivium_client.source_nouns import Source, SourceFailure
from trivium_client.training_nouns import (
    Dataset,
    DatasetCheck,
    DatasetProblem,
    DatasetReport,
    LabelRows,
    LeftOutRows,
    LengthBucket,
    PairStatistics,
    PreviewRow,
    PreviewToken,
)

__all__ = [
    "Adapter",
    "Alias",
    "AliasMove",
    "Answerability",
    "ApiKey",
    "AuditEvent",
    "AuditVerdict",
    "Calibration",
    "Canary",
    "Checkpoint",
    "Citation",
    "Collection",
    "Dataset",
    "DatasetCheck",
    "DatasetProblem",
    "DatasetReport",
    "Document",
    "DocumentText",
    "Engine",
    "Evaluation",
    "FilledRecipe",
    "Findings",
    "FolderReport",
    "Group",
    "Hit",
    "IndexBuild",
    "Job",
    "JobEstimate",
    "JobEvent",
    "JobFields",
    "LabelRows",
    "LeftOutRows",
    "LengthBucket",
    "Lineage",
    "ListPlace",
    "LoraSettings",
    "MatchingDocument",
    "Model",
    "PairStatistics",
    "PreferenceSettings",
    "PreviewRow",
    "PreviewToken",
    "Project",
    "PublishedCheckpoint",
    "QuestionProgress",
    "Recipe",
    "RecipeOrder",
    "Reembedding",
    "RefusedFile",
    "Reranking",
    "Route",
    "ScoredModel",
    "SearchExpansion",
    "SearchSettings",
    "ServedModel",
    "Source",
    "SourceFailure",
    "Span",
    "Statement",
    "Summary",
    "Sweep",
    "SweepAxis",
    "SweepEstimate",
    "SweepMember",
    "SweepRange",
    "Tally",
    "TierUsage",
    "TrainingSettings",
    "TuningReport",
    "TuningTrial",
    "User",
    "Version",
    "VersionFile",
]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's public half; `secret` is the whole key, shown by `create` alone."""

    key: str
    tenant: str
    display_name: str
    roles: tuple[str, ...]
    revoked: bool
    secret: str = field(default="", repr=False)
    project: str = ""
    scopes: tuple[str, ...] = ()
    expires: datetime | None = None
    last_used: datetime | None = None
    replaces: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change of what the tenant has, in any service; `hash` is hexadecimal.

    `outcome`, `request_id` and `event_id` are empty for changes of keys, projects, users and limits; an `outcome` other
    than OK says how a call broke off whose change may have been made or not.
    """

    sequence: int
    time: datetime | None
    principal: str
    action: str
    resource: str
    actor: str
    method: str
    hash: str
    outcome: str = ""
    request_id: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the audit log is whole; `head_hash`, hexadecimal, is worth noting outside."""

    intact: bool
    events: int
    head_sequence: int
    head_hash: str
    broken_sequence: int
    problem: str


@dataclass(frozen=True, slots=True)
class User:
    """A person of a tenant.  Without `roles` those count that the issuer of the user's tokens gives."""

    user: str
    tenant: str
    display_name: str
    issuer: str
    subject: str
    roles: tuple[str, ...]
    projects: tuple[str, ...]
    disabled: bool
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A label under which a tenant groups keys and what they use."""

    project: str
    display_name: str
