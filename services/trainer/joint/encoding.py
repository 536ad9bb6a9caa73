"""From a job's order to what it trains on and is evaluated on.

Runs in a process of its own (`encoding_child`): files are a caller's and the chat template may be a tenant's.
Invariant: the same order over the same files gives the same arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.trainer.conduct import Refused
from services.trainer.data.encoding import Encoded, Preparation, Prepared, Untrainable, prepare
from services.trainer.data.examples import Encoder
from services.trainer.data.split import split
from services.trainer.joint.dataset import Rows, rows_of
from services.trainer.recipes import reading
from services.trainer.settings import Settings
from services.trainer.work import Work

_SHOWN_LINES = 10


@dataclass(frozen=True, slots=True)
class Read:
    """What was read for a job, and what people should know of it."""

    training: Rows
    held_out: Rows | None
    messages: tuple[str, ...]


def read(work: Work, encoder: Encoder) -> Read:
    """Encode, cut and split the job's files.  Raises Refused for a bad row, and when there is nothing to train on."""
    settings = work.settings
    prepared = _prepared(work, Path(work.dataset_path), encoder)
    messages = list(_said_of(prepared, settings))
    trained, held = split(prepared.identities, _ratio(work), settings.sample_rows, settings.seed)
    held_out: Sequence[Encoded] = [prepared.examples[index] for index in held]
    if work.validation_path:
        validation = _prepared(work, Path(work.validation_path), encoder)
        messages += [f"Validation: {message}" for message in _said_of(validation, settings)]
        held_out = validation.examples
    training = [prepared.examples[index] for index in trained]
    limit = settings.max_row_tokens
    return Read(rows_of(training, limit), rows_of(held_out, limit) if held_out else None, tuple(messages))


def _ratio(work: Work) -> float:
    return 0.0 if work.validation_path else work.settings.validation_ratio


def _prepared(work: Work, path: Path, encoder: Encoder) -> Prepared:
    settings = work.settings
    preparation = Preparation(encoder, settings.objective, settings.supervision, settings.max_row_tokens)
    with path.open("rb") as file, Path(work.dataset_path).open("rb") as source:
        try:
            return prepare(reading.read(file, work.recipe, settings.seed, source), preparation)
        except Untrainable as error:
            raise Refused("DATASET_MALFORMED", str(error)) from error


def _said_of(prepared: Prepared, settings: Settings) -> list[str]:
    said = []
    if prepared.cut_lines:
        what = f"Rows longer than {settings.max_row_tokens} tokens, which were cut"
        said.append(f"{what}: {len(prepared.cut_lines)}, lines {_some(prepared.cut_lines)}")
    for reason, lines in prepared.left_out_lines.items():
        said.append(f"Rows that were left out ({reason}): {len(lines)}, lines {_some(lines)}")
    return said


def _some(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return shown if len(lines) <= _SHOWN_LINES else f"{shown}, …"
