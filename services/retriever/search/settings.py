"""How a collection is searched where a request does not say.

Invariant: what a request states wins over what its collections have stored, and that over
the deployment's settings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from services.retriever.search.question import Mode, Question


class Hyde(StrEnum):
    """When a passage that might answer is written and looked for as well."""

    OFF = "off"
    WEAK = "weak"
    ALWAYS = "always"


class Abstention(StrEnum):
    """What the gateway makes of questions that a collection seems not to answer."""

    OFF = "off"
    HEDGE = "hedge"
    STRICT = "strict"


_BY_CAUTION = (None, Abstention.OFF, Abstention.HEDGE, Abstention.STRICT)
_BY_USE = (Hyde.OFF, Hyde.WEAK, Hyde.ALWAYS)


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What a collection has stored; a mode or weight of None is the deployment's."""

    mode: Mode | None = None
    dense_weight: float | None = None
    rerank: bool = False
    hyde: Hyde = Hyde.OFF
    decompose: bool = False
    # Questions that are written for each chunk; 0 writes none and looks at none.
    questions_per_chunk: int = 0
    # Name or digest of what reranks; empty is the embedder's default.
    rerank_model: str = ""
    # What is made of questions that seem not to be answered here; None leaves it to whoever asks.
    abstention: Abstention | None = None

    @property
    def expands(self) -> bool:
        """Whether a search asks the generator."""
        return self.hyde is not Hyde.OFF or self.decompose

    @property
    def generates(self) -> bool:
        """Whether a generator is needed."""
        return self.expands or self.questions_per_chunk > 0

    def packed(self) -> str:
        """As the catalog keeps it."""
        return json.dumps({name: value for name, value in asdict(self).items() if value is not None})

    @classmethod
    def unpacked(cls, text: str) -> "SearchSettings":
        """From the catalog."""
        found = json.loads(text)
        mode, abstention = found.pop("mode", None), found.pop("abstention", None)
        return cls(
            mode=mode and Mode(mode),
            hyde=Hyde(found.pop("hyde", Hyde.OFF)),
            abstention=abstention and Abstention(abstention),
            **found,
        )


@dataclass(frozen=True, slots=True)
class Stated:
    """What a request says of how to search; None leaves it to the collections.  ``rerank_depth`` is for either."""

    mode: Mode | None = None
    dense_weight: float | None = None
    rerank: bool | None = None
    rerank_depth: int = 0
    # Naming one asks for reranking, unless that is refused; empty leaves it to the collections.
    rerank_model: str = ""
    hyde: Hyde | None = None
    decompose: bool | None = None
    # Whether the question vectors of collections that have some are looked at; None: they are.
    question_vectors: bool | None = None

    @property
    def generates(self) -> bool:
        """Whether the request itself asks for what needs a generator."""
        return self.hyde not in (None, Hyde.OFF) or bool(self.decompose)


def everything(question: Question) -> Stated:
    """All that the question itself says, which leaves nothing to what collections have stored."""
    depth, model = question.shape.rerank_depth, question.shape.rerank_model
    return Stated(
        question.mode,
        question.dense_weight,
        bool(depth),
        depth,
        model,
        Hyde.OFF,
        decompose=False,
        question_vectors=False,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """A question with what was left open decided, and how it is expanded."""

    question: Question
    hyde: Hyde
    decompose: bool
    question_vectors: bool = False

    @property
    def expands(self) -> bool:
        """Whether more than the question's own words is looked for."""
        return self.hyde is not Hyde.OFF or self.decompose


def planned(question: Question, stated: Stated, stored: Sequence[SearchSettings]) -> Plan:
    """The question as it is searched in collections with these settings."""
    joint = joined(stored)
    rerank = (joint.rerank or bool(stated.rerank_model)) if stated.rerank is None else stated.rerank
    weight = stated.dense_weight if stated.dense_weight is not None else joint.dense_weight
    whole = replace(
        question,
        mode=stated.mode or joint.mode or question.mode,
        dense_weight=question.dense_weight if weight is None else weight,
        shape=replace(
            question.shape,
            rerank_depth=stated.rerank_depth if rerank else 0,
            rerank_model=stated.rerank_model or joint.rerank_model,
            rerank_model_needed=bool(stated.rerank_model),
        ),
    )
    return Plan(
        whole,
        joint.hyde if stated.hyde is None else stated.hyde,
        joint.decompose if stated.decompose is None else stated.decompose,
        stated.question_vectors is not False and any(it.questions_per_chunk for it in stored),
    )


def joined(several: Sequence[SearchSettings]) -> SearchSettings:
    """One for several collections: a mode, a weight and a reranker that all have, and what one of them has on.

    Of several ways to abstain the most cautious counts.
    """
    modes, weights = {it.mode for it in several}, {it.dense_weight for it in several}
    rerankers = {it.rerank_model for it in several}
    return SearchSettings(
        mode=modes.pop() if len(modes) == 1 else None,
        dense_weight=weights.pop() if len(weights) == 1 else None,
        rerank=any(it.rerank for it in several),
        rerank_model=rerankers.pop() if len(rerankers) == 1 else "",
        hyde=max((it.hyde for it in several), key=_BY_USE.index, default=Hyde.OFF),
        decompose=any(it.decompose for it in several),
        abstention=max((it.abstention for it in several), key=_BY_CAUTION.index, default=None),
    )
