"""From a job's files to the rows that it trains on and is evaluated on, whichever way it trains.

Invariant: the same order over the same files gives the same rows, by the rules of `data.encoding` and `data.split`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.trainer.conduct import Refused
from services.trainer.data.encoding import Encoded, Preparation, Prepared, Untrainable, prepare
from services.trainer.data.examples import Encoder
from services.trainer.data.split import split
from services.trainer.recipes import reading
from services.trainer.work import Work

_SHOWN_LINES = 10


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to train on and rows held out, and what people should know of them."""

    training: Sequence[Encoded]
    validation: Sequence[Encoded]
    messages: Sequence[str]


def size_bytes(work: Work) -> int:
    """Bytes of the job's files.  Raises OSError."""
    return sum(Path(path).stat().st_size for path in (work.dataset_path, work.validation_path) if path)


def read(work: Work, encoder: Encoder) -> Material:
    """Encode, cut and split the job's files.  Raises Refused for a bad row, and when there is nothing to train on."""
    settings = work.settings
    preparation = Preparation(encoder, settings.objective, settings.supervision, settings.max_row_tokens)
    prepared = _prepared(work, work.dataset_path, preparation)
    messages = _messages(prepared, settings.max_row_tokens)
    ratio = 0.0 if work.validation_path else settings.validation_ratio
    trained, held = split(prepared.identities, ratio, settings.sample_rows, settings.seed)
    validation = [prepared.examples[index] for index in held]
    if work.validation_path:
        other = _prepared(work, work.validation_path, preparation)
        messages += [f"Validation: {message}" for message in _messages(other, settings.max_row_tokens)]
        validation = other.examples
    return Material([prepared.examples[index] for index in trained], validation, messages)


def _prepared(work: Work, path: str, preparation: Preparation) -> Prepared:
    with Path(path).open("rb") as file, Path(work.dataset_path).open("rb") as source:
        try:
            return prepare(reading.read(file, work.recipe, work.settings.seed, source), preparation)
        except Untrainable as error:
            raise Refused("DATASET_MALFORMED", str(error)) from error


def _messages(prepared: Prepared, limit_tokens: int) -> list[str]:
    about = {f"Rows that were left out ({reason})": lines for reason, lines in prepared.left_out_lines.items()}
    if prepared.cut_lines:
        about = {f"Rows longer than {limit_tokens} tokens, which were cut": prepared.cut_lines} | about
    return [f"{what}: {len(lines)}, lines {_some(lines)}" for what, lines in about.items()]


def _some(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return shown if len(lines) <= _SHOWN_LINES else f"{shown}, …"
