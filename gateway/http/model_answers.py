"""What the routes of models answer with; nothing is built through it at run time, as in ``answers``."""

from typing import Literal

from gateway.http.parsing import Strict


class ModelFacts(Strict):
    """What a name means now."""

    kind: Literal["base", "adapter", "full", "auto", "encoder", "unspecified"]
    version: str | None
    base_digest: str
    # Length of an encoder's vectors.
    dimensions: int = 0


class Model(Strict):
    """One name that ``model`` accepts."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["trivium"]
    trivium: ModelFacts


class ListFacts(Strict):
    """Services that could not be asked: what they know is missing."""

    unreachable: list[str]


class Models(Strict):
    """The names: the base, further bases, aliases, auto, encoders."""

    object: Literal["list"]
    data: list[Model]
    trivium: ListFacts | None = None


class ModelDeleted(Strict):
    """A name that means nothing any more."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


class Candidate(Strict):
    """A model that ``auto`` looked at, and how near the question is to its examples."""

    model: str
    score: float


class AutoChoice(Strict):
    """How ``auto`` chose."""

    candidates: list[Candidate]
    confidence: float
    threshold: float
    abstained: bool
    ambiguous: bool


class RouteShown(Strict):
    """Where a request would go."""

    object: Literal["trivium.route"]
    model: Model
    resolved_model: str
    reason: str
    alias: str | None
    canary: bool
    engines: list[str]
    auto: AutoChoice | None = None


class RouteQuery(Strict):
    """Which name, and for ``auto`` of which question."""

    model: str
    question: str = ""
    sticky_key: str = ""
