"""Public questions as a tenant would have them: adapters with examples, questions of theirs, and questions of nobody's.

Invariant: what examples are drawn from, what questions are asked of, and what a threshold is fitted against are three
different sets, and the third is the gateway's own.
"""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

_SNIPS_EACH = 100
_ORGANISATIONS = ("aventro-motors", "cendara-university", "velvera-technologies")

Intents = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Questions:
    """Where examples come from, what is asked of each intent, and what is asked of none."""

    examples: Intents
    asked: Intents
    outside: Sequence[str]


def of_test(folder: Path) -> Questions:
    """Banking77's test part and SNIPS, beside the questions of XQuAD."""
    examples, asked = _banking(folder, "train.csv"), _banking(folder, "test.csv")
    return Questions({**examples, **_snips(folder, 0)}, {**asked, **_snips(folder, 1)}, _xquad(folder))


def of_design(folder: Path) -> Questions:
    """Other questions than the test's, and others that nobody means, to see whether what was found holds there too."""
    train = _banking(folder, "train.csv")
    halves = [{name: texts[start::2] for name, texts in train.items()} for start in (0, 1)]
    outside = [question for name in _ORGANISATIONS for question in _organisation(folder, name)]
    return Questions({**halves[0], **_snips(folder, 2)}, {**halves[1], **_snips(folder, 3)}, outside)


def grouped(intents: Intents) -> dict[str, str]:
    """The group of each intent: those whose names begin with the same word are one adapter's."""
    return {name: name.split("_")[0] for name in intents}


def _banking(folder: Path, part: str) -> dict[str, list[str]]:
    intents: dict[str, list[str]] = {}
    with (folder / "ft-banking77" / part).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            intents.setdefault(row["category"], []).append(row["text"].strip())
    return dict(sorted(intents.items()))


def _snips(folder: Path, part: int) -> dict[str, list[str]]:
    """One of several disjoint parts of each intent."""
    intents = {}
    for path in sorted((folder / "ft-snips").glob("train_*_full.json.gz")):
        raw = gzip.decompress(path.read_bytes())
        try:
            document = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            document = json.loads(raw.decode("latin-1"))
        ((name, utterances),) = document.items()
        texts = sorted({"".join(piece["text"] for piece in item["data"]).strip() for item in utterances})
        Random(name).shuffle(texts)
        intents[name] = texts[part * _SNIPS_EACH : (part + 1) * _SNIPS_EACH]
    return intents


def _xquad(folder: Path) -> list[str]:
    articles = json.loads((folder / "qa-xquad-en" / "xquad.en.first32.json").read_text("utf-8"))["data"]
    found = [qa["question"] for article in articles for part in article["paragraphs"] for qa in part["qas"]]
    return list(dict.fromkeys(found))


def _organisation(folder: Path, name: str) -> list[str]:
    with (folder / "docs-rag-multi-corpus" / f"{name}.queries.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    column = next(key for key in rows[0] if key.lower() in {"query", "question"})
    return list(dict.fromkeys(row[column] for row in rows))
