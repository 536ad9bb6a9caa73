"""A reranker learns to tell the passage that answers a question from those that only seem to, reading both together.

From a sentence encoder its head begins at random; from a cross-encoder it goes on.  By binary cross-entropy, so that
the sigmoid of what it says is a probability, as the embedder serves it; the one right passage of a lesson weighs as
much as all its wrong ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.ops.tuning import conduct
from services.ops.tuning.conduct import Settings
from services.ops.tuning.mining import Lesson
from services.ops.tuning.passages import Told

_BATCH = 32


class TunedReranker:
    """A cross-encoder of the library with one label."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from sentence_transformers import CrossEncoder, CrossEncoderModelCardData

        card = CrossEncoderModelCardData(local_files_only=True)
        self.library = CrossEncoder(
            str(folder), num_labels=1, max_length=max_tokens, device="cpu", local_files_only=True, model_card_data=card
        )

    @property
    def transformer(self) -> Any:
        """The module whose weights are the model."""
        return self.library.transformers_model

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """How likely each passage answers the question.  Blocks."""
        pairs = [(question, passage) for passage in passages]
        return [float(it) for it in self.library.predict(pairs, batch_size=_BATCH, show_progress_bar=False)]

    def train(self, lessons: Sequence[Lesson], settings: Settings, scratch: Path, told: Told) -> float:
        """Learn the lessons; the mean loss.  Blocks for minutes.  Inside `conduct.reproducible`."""
        import torch
        from sentence_transformers import CrossEncoderTrainer, CrossEncoderTrainingArguments
        from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

        class Trainer(CrossEncoderTrainer):
            def add_model_card_callback(self, default_args_dict: Any) -> None:
                """Nobody reads the card that the library would write."""

        weight = torch.tensor(float(len(lessons[0].negatives)))
        trainer = Trainer(
            model=self.library,
            args=CrossEncoderTrainingArguments(**conduct.arguments(settings, scratch)),
            train_dataset=conduct.columns([row for it in lessons for row in _rows(it)]),
            loss=BinaryCrossEntropyLoss(self.library, pos_weight=weight),
        )
        return conduct.run(trainer, told)


def _rows(lesson: Lesson) -> list[dict[str, Any]]:
    right = {"query": lesson.question, "passage": lesson.positive, "label": 1.0}
    return [right, *({"query": lesson.question, "passage": text, "label": 0.0} for text in lesson.negatives)]
