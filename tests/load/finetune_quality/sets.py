"""The public sets as they are trained and tested on here, each a fixed part of its files.

Sizes are chosen so that base, few-shot, three rates of LoRA and three of full fine-tuning of a set take 40 to 80
minutes on two quiet cores, of which full fine-tuning takes most.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.load.finetune_quality.rows import QualitySet, Row, dealt, distinct, grouped
from tests.load.finetune_quality.scores import Measured, exact_match, slot_f1
from tests.load.finetune_quality.slot_errors import slot_error_rate
from tests.load.scaled import scaled

_PERSONAS = ("agreeableness", "conscientiousness", "openness", "risk-averse")
_INTENT_ROWS = 10
_NAME = "Answer with the intent of the message."
_SLOTS = "Answer with the slots of the command as a JSON object."
_DESCRIBE = "Describe the place in a sentence or two, with all of these facts."
_PERSONA = "Answer with Yes or No."


def banking77(data: Path, scale: float, seed: int) -> QualitySet:
    """Ten messages of each of 77 intents, two more to choose by, ten of the test part."""
    folder = data / "ft-banking77"
    test = distinct(_banking_rows(folder / "test.csv"))
    train = distinct(_banking_rows(folder / "train.csv"), test)
    intents = len({row.answer for row in train})
    counts = [intents * scaled(each, scale) for each in (_INTENT_ROWS, 2)]
    training, validation = dealt(grouped(train, _answer), counts, seed)
    (tested,) = dealt(grouped(test, _answer), [intents * scaled(_INTENT_ROWS, scale)], seed)
    return QualitySet(
        name="banking77",
        instruction=_NAME,
        told=f"{_NAME} It is one of these:\n{_labels(training)}",
        training=training,
        validation=validation,
        test=tested,
        shots=_first_of_each(training, 1),
        epochs=5,
        answer_tokens=24,
        measure=_labels_measured,
        labelled=True,
    )


def snips_intents(data: Path, scale: float, seed: int) -> QualitySet:
    """The intent of 2,000 commands, of seven."""
    training, validation, test = _snips(data, (2000, 210, 700), scale, seed)
    return QualitySet(
        name="snips_intents",
        instruction=_NAME,
        told=f"{_NAME} It is one of these:\n{_labels(training)}",
        training=_named(training),
        validation=_named(validation),
        test=_named(test),
        shots=_first_of_each(_named(training), 2),
        epochs=1,
        answer_tokens=12,
        measure=_labels_measured,
        labelled=True,
    )


def snips_slots(data: Path, scale: float, seed: int) -> QualitySet:
    """The slots of 700 commands, as JSON."""
    training, validation, test = _snips(data, (700, 140, 490), scale, seed)
    names = sorted({name for row in training for name in json.loads(row.rejected)})
    return QualitySet(
        name="snips_slots",
        instruction=_SLOTS,
        told=f"{_SLOTS} The slots that are in use:\n{', '.join(names)}\nA slot that the command lacks is left out.",
        training=_slotted(training),
        validation=_slotted(validation),
        test=_slotted(test),
        shots=tuple(_slotted(_first_of_each(training, 2))),
        epochs=2,
        answer_tokens=96,
        measure=_slots_measured,
    )


def e2e(data: Path, scale: float, seed: int) -> QualitySet:
    """Restaurants described from attributes: 1,000 descriptions; 300 places of the dev part, which no other part has."""
    folder = data / "ft-e2e-nlg"
    test = distinct(_e2e_rows(folder / "devset.csv.gz"))
    by_place = grouped(_e2e_rows(folder / "trainset.csv.gz"), lambda row: row.key)
    known = {row.key for row in test}
    # One description of a place: its others, in another split, would be the same question.
    places = [group for group in by_place if group[0].key not in known]
    counts = [scaled(1000, scale), scaled(120, scale)]
    training, validation = dealt([[row for group in places for row in group[:1]]], counts, seed)
    (tested,) = dealt([test], [scaled(300, scale)], seed)
    return QualitySet(
        name="e2e",
        instruction=_DESCRIBE,
        told=_DESCRIBE,
        training=training,
        validation=validation,
        test=tested,
        shots=training[:8],
        epochs=1,
        answer_tokens=80,
        measure=_descriptions_measured,
    )


def persona(data: Path, scale: float, seed: int) -> QualitySet:
    """Statements that a persona would say, and would not: 400 pairs learned, 800 others asked."""
    test: list[Row] = []
    learned: list[list[Row]] = []
    each = [scaled(100, scale, least=4), scaled(25, scale, least=2)]
    for name in _PERSONAS:
        groups = grouped(distinct(_persona_rows(data / "pref-persona" / f"{name}.jsonl.gz"), test), _answer)
        held_out, kept = dealt(groups, [scaled(200, scale, least=2), sum(each)], seed)
        test += held_out
        learned.append(list(kept))
    counts = [count * len(_PERSONAS) for count in each]
    training, validation = dealt(learned, counts, seed)
    return QualitySet(
        name="persona",
        instruction=_PERSONA,
        told=_PERSONA,
        training=training,
        validation=validation,
        test=tuple(test),
        shots=_first_of_each(training, 4),
        epochs=2,
        answer_tokens=0,
        measure=None,
    )


SETS: dict[str, Callable[[Path, float, int], QualitySet]] = {
    "banking77": banking77,
    "snips_intents": snips_intents,
    "snips_slots": snips_slots,
    "e2e": e2e,
    "persona": persona,
}


def _banking_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            yield Row(record["text"].strip(), record["category"])


def _snips(data: Path, counts: Sequence[int], scale: float, seed: int) -> list[tuple[Row, ...]]:
    """Commands with their intent as `answer` and the slots, as JSON, as `rejected`."""
    rows: list[Row] = []
    for path in sorted((data / "ft-snips").glob("train_*_full.json.gz")):
        content = gzip.decompress(path.read_bytes())
        # One of the files is Latin-1, as its makers left it.
        text = content.decode("latin-1" if "PlayMusic" in path.name else "utf-8")
        for intent, commands in json.loads(text).items():
            rows += [_command(intent, command["data"]) for command in commands]
    return dealt(grouped(distinct(rows), _answer), [scaled(count, scale, least=7) for count in counts], seed)


def _command(intent: str, pieces: list[dict[str, Any]]) -> Row:
    slots: dict[str, Any] = {}
    for piece in pieces:
        if "entity" in piece:
            name, value = piece["entity"], piece["text"].strip()
            # Said twice, both are there.
            slots[name] = value if name not in slots else [*_listed(slots[name]), value]
    text = "".join(piece["text"] for piece in pieces).strip()
    return Row(text, intent, json.dumps(slots, ensure_ascii=False, sort_keys=True))


def _e2e_rows(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rb") as file:
        for record in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline="")):
            yield Row(record["mr"], " ".join(record["ref"].split()))


def _persona_rows(path: Path) -> Iterator[Row]:
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        record = json.loads(line)
        matching, other = record["answer_matching_behavior"], record["answer_not_matching_behavior"]
        yield Row(record["question"], matching.strip(), other.strip())


def _labels_measured(rows: Sequence[Row], given: Sequence[str]) -> Measured:
    return exact_match([row.answer for row in rows], given)


def _slots_measured(rows: Sequence[Row], given: Sequence[str]) -> Measured:
    return slot_f1([row.answer for row in rows], given)


def _descriptions_measured(rows: Sequence[Row], given: Sequence[str]) -> Measured:
    return slot_error_rate([row.text for row in rows], given)


def _answer(row: Row) -> str:
    return row.answer


def _labels(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({row.answer for row in rows}))


def _first_of_each(rows: Sequence[Row], count: int) -> tuple[Row, ...]:
    """The first rows of each answer, the answers taking turns."""
    groups = grouped(rows, _answer)
    return tuple(group[place] for place in range(count) for group in groups if place < len(group))


def _named(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(Row(row.text, row.answer) for row in rows)


def _slotted(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(Row(row.text, row.rejected) for row in rows)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
