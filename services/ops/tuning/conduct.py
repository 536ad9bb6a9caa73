"""How a training is conducted: seeded, with so many threads, quietly, by the library's own trainer.

Invariant: the same lessons, settings and threads give the same weights on one machine; nothing is fetched from a hub.
"""

import importlib.metadata
import logging
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.ops.tuning.refusal import Untrainable

if TYPE_CHECKING:
    from services.ops.tuning.passages import Told

LIBRARIES = ("sentence-transformers", "transformers", "torch", "accelerate", "datasets", "tokenizers")


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is trained; ``negatives`` are those of a lesson, ``warmup`` the share of steps in which the rate rises."""

    epochs: float
    batch_size: int
    learning_rate: float
    negatives: int
    seed: int
    threads: int
    warmup: float = 0.1


def libraries() -> dict[str, str]:
    """The versions that the weights follow from.  Raises Untrainable where the extra is not installed."""
    try:
        return {name: importlib.metadata.version(name) for name in LIBRARIES}
    except importlib.metadata.PackageNotFoundError as missing:
        cure = "Install the extra tuning, in the checkout: pip install -e '.[tuning]'"
        raise Untrainable(f"the package {missing.name} is not installed here, and training needs it. {cure}") from None


@contextmanager
def reproducible(settings: Settings) -> Iterator[None]:
    """Inside, torch computes the same for the same seed, in so many threads; afterwards it is as it was before."""
    with _quiet():
        import numpy as np
        import torch
        import transformers

        threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
        torch.set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(True)
        transformers.set_seed(settings.seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
            torch.set_rng_state(drawn[2])


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries draw no bars and say nothing that is no error, while they are imported either; what is told, we tell."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        from transformers.utils import logging as messages

        shown = messages.is_progress_bar_enabled()
        messages.disable_progress_bar()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            if shown:
                messages.enable_progress_bar()
    finally:
        logging.disable(level)


def arguments(settings: Settings, scratch: Path, **more: Any) -> dict[str, Any]:
    """Arguments of the library's trainer: on the processor, without reports, nothing kept on the way."""
    return {
        "output_dir": str(scratch),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **more,
    }


def run(trainer: Any, told: "Told") -> float:
    """Train to the end; the mean loss.  ``told`` hears of every step."""
    from transformers import PrinterCallback, TrainerCallback

    class Telling(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told("training", state.global_step, state.max_steps)

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Telling())
    return float(trainer.train().training_loss)


def columns(rows: list[Mapping[str, Any]]) -> Any:
    """Rows of the same fields as the library's table."""
    from datasets import Dataset

    return Dataset.from_dict({name: [row[name] for row in rows] for name in rows[0]})
