"""From questions to a version: read, split, mine, train, judge, publish.

Invariant: nothing is in the registry before the last step, which makes the version in one call; what ends the recipe
earlier leaves a folder of scratch at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trivium_client import Trivium
from trivium_client.nouns import Version

from services.ops.tuning import bases, conduct, embedder, folder, judgement, mining, passages, publishing, reranker
from services.ops.tuning.bases import Base
from services.ops.tuning.conduct import Settings
from services.ops.tuning.judgement import Comparison, Judged
from services.ops.tuning.mining import Found, Lesson
from services.ops.tuning.passages import Library, Told
from services.ops.tuning.questions import Question, Split, gathered, split
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.role import Role


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be trained from what; without ``model`` nothing is trained, and what there is is judged."""

    collection: str
    pairs: Sequence[tuple[str, Sequence[str]]]
    role: Role
    base: str
    settings: Settings
    model: str = ""
    held_out: float = 0.3
    share_documents: bool = False
    publish_anyway: bool = False
    # A new folder that the trained model is kept in as well.
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the questions, the passages, how it was before, and with training how it is and the version.

    ``version`` is None where it was not better, or was not to be trained.
    """

    split: Split
    library: Library
    base: Base
    before: tuple[Judged, ...]
    comparison: Comparison | None = None
    version: Version | None = None


def followed(client: Trivium, wish: Wish, told: Told) -> Outcome:
    """Follow the recipe.  Blocks for minutes.  Raises Untrainable and TriviumError."""
    libraries = conduct.libraries()
    parts = split(gathered(wish.pairs), wish.held_out, share_documents=wish.share_documents)
    base = bases.opened(wish.base)
    if wish.model:
        publishing.require_name(client, wish.model, wish.role)
    if wish.role is Role.EMBEDDER and base.role is not Role.EMBEDDER:
        raise Untrainable(f"{wish.base} is a reranker, which has no vectors: name an embedder, or say --role reranker")
    library = passages.fetched(client, wish.collection, told)
    mining.require_documents([*parts.training, *parts.held_out], library)
    with TemporaryDirectory(prefix="trivium-tuning-") as scratch:
        bench = _Bench(client, wish, base, library, Path(scratch), told)
        before = bench.before(parts)
        if not wish.model:
            return Outcome(parts, library, base, before)
        trained, loss, written = bench.trained(parts)
        comparison = judgement.compared(before, trained)
        version = None
        if comparison.better or wish.publish_anyway:
            provenance = publishing.Provenance(base, parts, library, wish.settings, libraries, comparison, loss)
            version = publishing.published(client, wish.model, written, wish.role, provenance)
        return Outcome(parts, library, base, before, comparison, version)


class _Bench:
    """Where one model is judged, trained and judged again."""

    def __init__(self, client: Trivium, wish: Wish, base: Base, library: Library, scratch: Path, told: Told) -> None:
        self._client, self._wish, self._base, self._library = client, wish, base, library
        self._told = told
        self._workspace = bases.workspace(base, wish.role, scratch / "base")
        self._scratch = scratch / "trainer"
        self._written = wish.out or scratch / "model"
        # What searches give for the held-out questions: what a reranker is judged on.
        self._found: list[Found] = []

    def before(self, parts: Split) -> tuple[Judged, ...]:
        """How well the held-out questions are answered without what is to be trained."""
        with conduct.reproducible(self._wish.settings):
            if self._wish.role is Role.EMBEDDER:
                return (self._of_vectors("base", self._embedder(), parts),)
            self._found = self._searched(parts.held_out)
            plain = judgement.of_search("search", self._found)
            usual = judgement.of_search("search, reranked", self._searched(parts.held_out, rerank=True))
            if self._base.role is Role.RERANKER:
                return plain, usual, self._of_scores("base", self._reranker())
            return plain, usual

    def trained(self, parts: Split) -> tuple[Judged, float, Path]:
        """How well they are answered with it, its mean loss, and the folder that it is written into."""
        found = self._searched(parts.training)
        lessons = mining.lessons(self._client, found, self._library, self._wish.settings.negatives)
        with conduct.reproducible(self._wish.settings):
            if self._wish.role is Role.EMBEDDER:
                encoder = self._embedder()
                loss = self._train(encoder, lessons)
                return self._of_vectors("trained", encoder, parts), loss, self._write(encoder)
            reader = self._reranker()
            loss = self._train(reader, lessons)
            return self._of_scores("trained", reader), loss, self._write(reader)

    def _embedder(self) -> embedder.TunedEmbedder:
        return embedder.TunedEmbedder(self._workspace, self._base.tokens(self._wish.role))

    def _reranker(self) -> reranker.TunedReranker:
        return reranker.TunedReranker(self._workspace, self._base.tokens(self._wish.role))

    def _train(self, model: "embedder.TunedEmbedder | reranker.TunedReranker", lessons: Sequence[Lesson]) -> float:
        return model.train(lessons, self._wish.settings, self._scratch, self._told)

    def _write(self, model: "embedder.TunedEmbedder | reranker.TunedReranker") -> Path:
        return folder.write(model.transformer, self._base, self._wish.role, self._written)

    def _searched(self, questions: Sequence[Question], *, rerank: bool = False) -> list[Found]:
        return mining.searched(self._client, self._wish.collection, questions, self._told, rerank=rerank)

    def _of_vectors(self, name: str, model: embedder.TunedEmbedder, parts: Split) -> Judged:
        self._told(f"judging: {name}", 0, 1)
        return judgement.of_vectors(name, model.vectors, self._library, parts.held_out)

    def _of_scores(self, name: str, model: reranker.TunedReranker) -> Judged:
        self._told(f"judging: {name}", 0, 1)
        return judgement.of_scores(name, model.scores, self._found)
