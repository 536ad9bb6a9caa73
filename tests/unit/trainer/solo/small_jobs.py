"""Solo jobs small enough to train in a second, and what they make of it."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.trainer.data.encoding import Preparation, prepare
from services.trainer.data.examples import ChatEncoder, Example, Judged, Pair
from services.trainer.data.reading import read
from services.trainer.data.rows import Row
from services.trainer.settings import Method, Objective, Settings
from services.trainer.solo.order import Hooks, Report, SoloOrder
from tests.unit.trainer.joint.company import PAIRS, text
from tests.unit.trainer.tiny import rows_text

SETTINGS = Settings(
    method=Method.FULL, rank=4, alpha=8.0, epochs=1, batch_rows=4, learning_rate=1e-3, seed=3, micro_batch_tokens=200
)
METHODS = (Method.FULL, Method.DORA, Method.QLORA)
OBJECTIVES = (Objective.SUPERVISED, Objective.DPO, Objective.KTO)


def examples(base: Path) -> list[Example]:
    """Ten conversations, five of them different."""
    encoder = ChatEncoder.load(base)
    return [encoder.encode(row.turns) for row in read(io.BytesIO(rows_text().encode())) if isinstance(row, Row)]


def rows(base: Path, objective: Objective) -> Sequence[Any]:
    """Rows of the kind that the objective takes."""
    known = examples(base)
    if objective is Objective.DPO:
        return [Pair(known[index], known[(index + 1) % 5]) for index in range(len(known))]
    if objective is Objective.KTO:
        return [Judged(example, index % 3 != 0) for index, example in enumerate(known)]
    if objective is Objective.CONTINUED:
        return [Example(example.tokens, (True,) * len(example.tokens)) for example in known]
    return known


def judged_pairs(base: Path) -> list[Judged]:
    """Preference pairs as KTO takes them: two answers to each question, one after the other."""
    preparation = Preparation(ChatEncoder.load(base), Objective.KTO, SETTINGS.supervision, SETTINGS.max_row_tokens)
    found = prepare(read(io.BytesIO(text(PAIRS).encode())), preparation).examples
    return [row for row in found if isinstance(row, Judged)]


class Job:
    """One job in a folder of its own; what it reports is kept in `reports`."""

    def __init__(self, folder: Path, base: Path, settings: Settings = SETTINGS, **order: Any) -> None:
        self.folder = folder
        self.settings = settings
        self.reports: list[Report] = []
        self.training = rows(base, settings.objective)
        self.validation: Sequence[Any] = []
        kept = folder / "checkpoints"
        kept.mkdir(parents=True, exist_ok=True)
        self.order = SoloOrder(base, "tiny", settings, kept, kept, {"torch": "x"}, **order)

    def under_lease(self, epoch: int) -> None:
        """Have its checkpoints written under this lease."""
        from services.trainer.checkpoints import lease_folder

        self.order = replace(self.order, into=lease_folder(self.order.kept, epoch))

    def train(self, **hooks: Any) -> Any:
        """Train on from where the folder stands; return what `run.train` does."""
        from services.trainer.solo.run import train

        return train(self.order, self.training, self.validation, Hooks(self.reports.append, **hooks))

    def finish(self, **hooks: Any) -> str:
        """Train to the end and save; return the SHA-256 of the weights."""
        trained = self.train(**hooks)
        assert trained is not None
        result = self.folder / "result"
        result.mkdir(exist_ok=True)
        trained.save(result)
        return hashlib.sha256(self.weights.read_bytes()).hexdigest()

    @property
    def weights(self) -> Path:
        """The weights that `finish` saved."""
        name = "adapter_model.safetensors" if self.settings.method.makes_adapter else "model.safetensors"
        return self.folder / "result" / name

    def said(self, kind: Any) -> list[Any]:
        """The reports of one kind."""
        return [report for report in self.reports if isinstance(report, kind)]

    def steps(self) -> list[Any]:
        """The reports of steps, each once: a job that goes on says its last ones again, and says the same of them."""
        once: dict[int, Any] = {}
        for report in self.said(stepped()):
            first = once.setdefault(report.progress.step, report)
            assert (first.progress, first.learning_rate) == (report.progress, report.learning_rate)
        return list(once.values())

    def stop_after(self, step: int) -> None:
        """Train until a checkpoint after this step, as a paused job does."""
        assert self.train(stopping=lambda: len(self.said(stepped())) >= step) is None


def stepped() -> Any:
    """The report of a step."""
    from services.trainer.solo.order import Stepped

    return Stepped


def with_settings(**changes: Any) -> Settings:
    """The small settings with some changed."""
    return replace(SETTINGS, **changes)
