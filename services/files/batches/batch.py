"""What a batch is: its states, its facts, and how its row shows them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from services.chassis.context import Rights, Role, Scope
from services.files.store_batches import BatchRow


class Endpoint(StrEnum):
    """What all requests of a batch ask."""

    CHAT_COMPLETIONS = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    RESPONSES = "/v1/responses"


class State(StrEnum):
    """How far a batch is."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


UNENDED = (State.VALIDATING, State.IN_PROGRESS, State.FINALIZING, State.CANCELLING)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the input; ``line`` is counted from 1, 0 for the whole file."""

    code: str
    message: str
    line: int = 0
    param: str = ""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens used."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What a new batch is to be."""

    input_file: str
    endpoint: Endpoint
    window_seconds: int
    output_seconds: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Creator:
    """Who began a batch, and what they might do then: its lines are asked as that, whatever becomes of them."""

    principal: str
    rights: Rights


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it is now."""

    tenant: str
    batch: str
    creator: Creator
    order: Order
    input_sha256: str
    state: State
    ending: State | None
    output_file: str
    error_file: str
    problems: tuple[Problem, ...]
    model: str
    total: int
    completed: int
    failed: int
    tokens: Tokens
    created_at: float
    started_at: float | None
    finalized_at: float | None
    cancelled_at: float | None
    ended_at: float | None

    @property
    def expires_at(self) -> float:
        """When its window ends."""
        return self.created_at + self.order.window_seconds


def shown(row: BatchRow) -> Batch:
    """A row as what it means."""
    order = Order(
        row.input_file, Endpoint(row.endpoint), row.window_seconds, row.output_seconds, json.loads(row.details)
    )
    return Batch(
        tenant=row.tenant,
        batch=row.batch,
        creator=Creator(row.principal, _rights(row)),
        order=order,
        input_sha256=row.input_sha256,
        state=State(row.state),
        ending=State(row.ending) if row.ending else None,
        output_file=row.output_file,
        error_file=row.error_file,
        problems=tuple(Problem(**each) for each in json.loads(row.problems)),
        model=row.model,
        total=row.total,
        completed=row.completed,
        failed=row.failed,
        tokens=Tokens(row.prompt_tokens, row.cached_tokens, row.completion_tokens),
        created_at=row.created_at,
        started_at=row.started_at,
        finalized_at=row.finalized_at,
        cancelled_at=row.cancelled_at,
        ended_at=row.ended_at,
    )


def _rights(row: BatchRow) -> Rights:
    roles, scopes = (name for name in row.roles.split(",") if name), (name for name in row.scopes.split(",") if name)
    return Rights(frozenset(map(Role, roles)), frozenset(map(Scope, scopes)))


def written(problems: tuple[Problem, ...]) -> str:
    """Problems as a row keeps them."""
    return json.dumps([asdict(problem) for problem in problems])
