"""Which questions `ask` sends to summaries and to the index: ``python -m tests.load.ask_paths``.

Questions of a whole collection and of its documents are made here, from sentences by whoever wrote the rules, who did not
change these for them: their recall says which ways to ask are known, and is no estimate over people's questions.  So it is
of sentences, each counted by the share of its questions that are known.  What should stay a question of passages are those
of the public sets, whose people asked about passages; the share of them that is taken wrongly has a 95 % interval (Wilson).
The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.asking.question import Path as AnswerPath
from gateway.asking.recognising import recognise
from services.ops.cache import CHECKOUT
from tests.load.retriever import sets

_NOUNS = ("documents", "files", "reports", "articles")
_WHOLES = ("collection", "knowledge base", "archive")
_TOPICS = ("fog", "day tickets", "the warranty", "carbon neutral packaging", "late payment", "safety training")
_SUMMARY = (
    "Summarise the {whole}.",
    "Can you give me an overview of the {whole}?",
    "What is this {whole} about?",
    "What are the main themes of the {nouns}?",
    "What topics come up across all the {nouns}?",
    "Write a short summary of all {nouns}.",
    "In a few sentences, what do all these {nouns} say?",
    "Summarize everything you have about {topic}.",
    "Give me a summary of all the {nouns} about {topic}.",
    "What do the {nouns} in this {whole} have in common?",
    "Please sum up all of the {nouns}.",
    "Tell me in general what the {whole} covers.",
)
_INDEX = (
    "How many {nouns} mention {topic}?",
    "How many {nouns} are there in the {whole}?",
    "Which {nouns} mention {topic}?",
    "List all {nouns} that contain {topic}.",
    "In how many {nouns} is {topic} mentioned?",
    "Count the {nouns} about {topic}.",
    "What {nouns} discuss {topic}?",
    "Show me every one of the {nouns} that refers to {topic}.",
    "How many of the {nouns} talk about {topic}?",
    "Name the {nouns} in which {topic} occurs.",
)
_Z = 1.959964


def made(templates: tuple[str, ...]) -> list[str]:
    """Every question that the templates make, each once."""
    whole = product(templates, _NOUNS, _WHOLES, _TOPICS)
    return list(dict.fromkeys(text.format(nouns=nouns, whole=one, topic=topic) for text, nouns, one, topic in whole))


def asked_of_passages(data: Path) -> dict[str, list[str]]:
    """The questions of the public sets, by set."""
    found = {
        "xquad": [it.text for it in sets.xquad(data).questions],
        "cranfield": [it.text for it in sets.cranfield(data).questions],
        "organisations": [it.text for it in sets.multicorpus(data, "md").questions],
    }
    with (data / "ft-banking77" / "test.csv").open(newline="") as rows:
        found["banking77"] = [row["text"] for row in csv.DictReader(rows)]
    return {name: list(dict.fromkeys(questions)) for name, questions in found.items()}


def interval(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927); all of [0, 1] where there is nothing."""
    if not of:
        return 0.0, 1.0
    share, spread = hits / of, _Z * _Z / of
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return centre - half, centre + half


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=CHECKOUT.parent / "shared" / "data", help="folder of the sets")
    data = parser.parse_args().data
    passages = asked_of_passages(data)
    kept = [question for questions in passages.values() for question in questions]
    wrong = [f"{found.value}: {it}" for it in kept if (found := recognise(it).path) is not AnswerPath.PASSAGES]
    low, high = interval(len(wrong), len(kept))
    table = Table(title=f"{len(kept)} questions of {', '.join(passages)}: {len(wrong)} taken wrongly")
    for column in ("path", "known", "sentence"):
        table.add_column(column)
    figures: dict[str, object] = {"questions": len(kept), "wrong": [len(wrong) / len(kept), low, high]}
    for path, templates in ((AnswerPath.SUMMARY, _SUMMARY), (AnswerPath.INDEX, _INDEX)):
        shares = [known(template, path) for template in templates]
        for template, share in zip(templates, shares, strict=True):
            table.add_row(path.value, f"{share:.2f}", template)
        figures[path.value] = {"sentences": len(templates), "known": sum(shares) / len(shares)}
    Console(width=120).print(table)
    print("\n".join(wrong))
    print(json.dumps(figures))


def known(template: str, path: AnswerPath) -> float:
    """The share of a sentence's questions that are taken for what they are."""
    questions = made((template,))
    return sum(recognise(question).path is path for question in questions) / len(questions)


if __name__ == "__main__":
    main()
