"""An embedder learns to put a question beside the passage that answers it, and further from those that only seem to.

By the ranking loss of multiple negatives: for each question the passages of all others of its batch, and the mined
ones, are wrong (Henderson et al., arXiv 1705.00652, section 4.4).
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.ops.tuning import batches, conduct
from services.ops.tuning.conduct import Settings
from services.ops.tuning.mining import Lesson
from services.ops.tuning.passages import Told

_BATCH = 32
# Texts whose activations are held at once: memory does not grow with the batch (Gao et al., arXiv 2101.06983).
_TOGETHER = 8


class TunedEmbedder:
    """A sentence encoder of the library: mean of the last layer, length 1, as the embedder serves it."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
        from sentence_transformers.base.modules import Normalize, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        reads = Transformer(str(folder), max_seq_length=max_tokens)
        pools = Pooling(reads.get_embedding_dimension(), "mean")
        # A card would look for its base on a hub.
        card = SentenceTransformerModelCardData(local_files_only=True)
        self.library = SentenceTransformer(modules=[reads, pools, Normalize()], device="cpu", model_card_data=card)

    @property
    def transformer(self) -> Any:
        """The module whose weights are the model."""
        return self.library.transformers_model

    def vectors(self, texts: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """A row of length 1 a text, float32.  Blocks."""
        rows = self.library.encode(list(texts), batch_size=_BATCH, show_progress_bar=False)
        return np.asarray(rows, dtype=np.float32)

    def train(self, lessons: Sequence[Lesson], settings: Settings, scratch: Path, told: Told) -> float:
        """Learn the lessons; the mean loss.  Blocks for minutes.  Inside `conduct.reproducible`."""
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
        from sentence_transformers.base.sampler import DefaultBatchSampler
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

        class Trainer(SentenceTransformerTrainer):
            def add_model_card_callback(self, default_args_dict: Any) -> None:
                """Nobody reads the card that the library would write."""

        plans = batches.planned(lessons, settings.batch_size, settings.seed, math.ceil(settings.epochs))

        class Planned(DefaultBatchSampler):
            def __iter__(self) -> Iterator[batches.Batch]:
                return iter(plans[self.epoch])

            def __len__(self) -> int:
                return len(plans[0])

        trainer = Trainer(
            model=self.library,
            args=SentenceTransformerTrainingArguments(**conduct.arguments(settings, scratch, batch_sampler=Planned)),
            train_dataset=conduct.columns([_row(it) for it in lessons]),
            loss=CachedMultipleNegativesRankingLoss(self.library, mini_batch_size=_TOGETHER),
        )
        return conduct.run(trainer, told)


def _row(lesson: Lesson) -> dict[str, str]:
    wrong = {f"negative_{number}": text for number, text in enumerate(lesson.negatives, 1)}
    return {"anchor": lesson.question, "positive": lesson.positive, **wrong}
