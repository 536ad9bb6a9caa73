"""From a job's files to the rows that it trains on and is evaluated on, whichever way it trains.

Invariant: the same source gives the same rows, by the rules of `data.encoding` and `data.split`; nothing else of an
order is looked at here.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.trainer.conduct import Refused
from services.trainer.data.encoding import Encoded, Preparation, Prepared, Untrainable, prepare
from services.trainer.data.examples import Encoder
from services.trainer.data.split import split
from services.trainer.recipes import reading
from services.trainer.settings import Objective, Supervision
from services.trainer.work import Work

_SHOWN_LINES = 10


@dataclass(frozen=True, slots=True)
class Source:
    """All that a job's rows come from, beside its base: jobs with the same source have the same rows.

    A dataset's file is named by its digest, so another dataset is another path.
    """

    dataset_path: str
    validation_path: str
    recipe: str
    objective: Objective
    supervision: Supervision
    max_row_tokens: int
    sample_rows: int
    validation_ratio: float
    seed: int

    @classmethod
    def of(cls, work: Work) -> "Source":
        """Where the job's rows come from."""
        settings = work.settings
        return cls(
            dataset_path=work.dataset_path,
            validation_path=work.validation_path,
            recipe=work.recipe,
            objective=settings.objective,
            supervision=settings.supervision,
            max_row_tokens=settings.max_row_tokens,
            sample_rows=settings.sample_rows,
            validation_ratio=0.0 if work.validation_path else settings.validation_ratio,
            seed=settings.seed,
        )


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to train on and rows held out, what people should know of them, and facts that belong to the version."""

    training: Sequence[Encoded]
    validation: Sequence[Encoded]
    messages: Sequence[str]
    facts: Mapping[str, object]


def size_bytes(work: Work) -> int:
    """Bytes of the job's files.  Raises OSError."""
    return sum(Path(path).stat().st_size for path in (work.dataset_path, work.validation_path) if path)


def read(source: Source, encoder: Encoder) -> Material:
    """Encode, cut and split a job's files.  Raises Refused for a bad row, and when there is nothing to train on."""
    preparation = Preparation(encoder, source.objective, source.supervision, source.max_row_tokens)
    prepared = _prepared(source, source.dataset_path, preparation)
    messages = _messages(prepared, source.max_row_tokens)
    trained, held = split(prepared.identities, source.validation_ratio, source.sample_rows, source.seed)
    validation = [prepared.examples[index] for index in held]
    evaluated: dict[str, object] = {"rows": len(held), "digest": _digest(prepared.identities[index] for index in held)}
    if source.validation_path:
        other = _prepared(source, source.validation_path, preparation)
        messages += [f"Validation: {message}" for message in _messages(other, source.max_row_tokens)]
        validation = other.examples
        evaluated = {"rows": other.rows}
    facts = {"dataset_rows": prepared.rows, **({"validation": evaluated} if validation else {})}
    return Material([prepared.examples[index] for index in trained], validation, messages, facts)


def _digest(identities: Iterable[bytes]) -> str:
    """What names rows that are held out of a dataset: the same for the same rows, whatever seed chose them."""
    return f"sha256:{hashlib.sha256(b''.join(sorted(set(identities)))).hexdigest()}"


def _prepared(source: Source, path: str, preparation: Preparation) -> Prepared:
    with Path(path).open("rb") as file, Path(source.dataset_path).open("rb") as trained_on:
        try:
            return prepare(reading.read(file, source.recipe, source.seed, trained_on), preparation)
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
