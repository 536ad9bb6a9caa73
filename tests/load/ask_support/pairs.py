"""Sentences with three paragraphs as their sources, of which one supports them or none does; all made from XQuAD by code.

Invariant: what is changed to be false is changed in one place: another number, another name, another answer.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.asking.retrieval import Source
from gateway.asking.sentences import bounds
from gateway.generation import SourceSpan

_NUMBER = re.compile(r"\b\d[\d,.]*\b(?![.,]?\d)")
# A word with a capital that does not begin the sentence.
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")
# Whose subject is the question word itself, so that an answer can stand in its place.
_SUBJECT = re.compile(r"^(?:Who|What|Which) (?=(?:is|was|are|were|has|had|can|could|may|will|won|led|made|wrote)\b)")
_ASIDE = re.compile(r" \([^()]+\)|,[^,]+(?=[.]$)")
_FEWEST_WORDS = 7
_OTHER_WORDS = {
    "about": "roughly",
    "also": "too",
    "although": "though",
    "because": "since",
    "began": "started",
    "being": "getting",
    "built": "constructed",
    "called": "named",
    "city": "town",
    "common": "widespread",
    "created": "made",
    "different": "distinct",
    "during": "throughout",
    "early": "first",
    "ended": "stopped",
    "final": "last",
    "formed": "shaped",
    "found": "discovered",
    "however": "still",
    "important": "significant",
    "including": "among them",
    "increase": "growth",
    "known": "famous",
    "large": "big",
    "largest": "biggest",
    "later": "afterwards",
    "main": "chief",
    "many": "numerous",
    "new": "recent",
    "often": "frequently",
    "people": "persons",
    "received": "got",
    "region": "area",
    "several": "various",
    "small": "little",
    "started": "began",
    "used": "employed",
    "usually": "normally",
    "war": "conflict",
    "while": "whereas",
    "work": "labour",
}
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence of one ``kind``, whether its sources support it, and these."""

    kind: str
    supported: bool
    sentence: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text with its sentences, and its questions with their answers."""

    text: str
    sentences: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]


def halves(data: Path, seed: int, most: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs of the articles with even numbers and of those with odd ones, at most so many of a kind."""
    articles = _articles(data)
    found: list[list[Pair]] = []
    for half in range(2):
        chance = random.Random(seed + half)
        pairs = [pair for article in articles[half::2] for pair in _of_article(article, articles, chance)]
        chance.shuffle(pairs)
        kinds = dict.fromkeys(pair.kind for pair in pairs)
        found.append([pair for kind in kinds for pair in [it for it in pairs if it.kind == kind][:most]])
    return found[0], found[1]


def _articles(data: Path) -> list[list[Paragraph]]:
    articles = json.loads((data / "qa-xquad-en" / "xquad.en.first32.json").read_text())["data"]
    return [[_paragraph(it) for it in article["paragraphs"]] for article in articles]


def _paragraph(raw: dict[str, list[dict[str, list[dict[str, str]]]]]) -> Paragraph:
    text = str(raw["context"])
    sentences = (text[start:end] for start, end in bounds(text))
    asked = tuple((str(qa["question"]), qa["answers"][0]["text"]) for qa in raw["qas"])
    return Paragraph(text, tuple(it for it in sentences if len(it.split()) >= _FEWEST_WORDS), asked)


def _of_article(
    article: Sequence[Paragraph], articles: Sequence[Sequence[Paragraph]], chance: random.Random
) -> Iterator[Pair]:
    """All pairs of an article: each paragraph with two others as sources, the rest of the article in none."""
    for place, paragraph in enumerate(article):
        others = [it for at, it in enumerate(article) if at != place]
        chance.shuffle(others)
        sources = _sources([paragraph, *others[:2]], chance)
        held = " ".join(source.text for source in sources)
        foreign = chance.choice([it for it in articles if it is not article])
        for sentence in paragraph.sentences:
            for kind, change in _TRUE.items():
                if (made := change(sentence)) is not None:
                    yield Pair(kind, True, made, sources)
            yield from _falsified(sentence, held, paragraph, foreign, sources, chance)
            half = _half(sentence, chance.choice(chance.choice(foreign).sentences))
            yield Pair("half from elsewhere", False, half, sources)
        for outside in others[2:]:
            yield from (Pair("same article", False, it, sources) for it in outside.sentences)
        yield from (Pair("another article", False, it, sources) for it in chance.choice(foreign).sentences)
        yield from _answered(paragraph, sources, chance)


def _sources(paragraphs: list[Paragraph], chance: random.Random) -> tuple[Source, ...]:
    chance.shuffle(paragraphs)
    return tuple(
        Source(SourceSpan("xquad", f"{number}.txt", "", 0, len(it.text), "", number), "", (), it.text, 1.0)
        for number, it in enumerate(paragraphs, start=1)
    )


def _half(sentence: str, other: str) -> str:
    """The beginning of a sentence with the end of another one."""
    begins, ends = sentence.split(), other.split()
    return " ".join([*begins[: len(begins) // 2], *ends[len(ends) // 2 :]])


def _as_it_is(sentence: str) -> str | None:
    return sentence


def _reordered(sentence: str) -> str | None:
    """The part behind the first comma before the one in front of it."""
    first, comma, rest = sentence.rstrip(".").partition(", ")
    if not comma or min(len(first.split()), len(rest.split())) < 3:
        return None
    return f"{rest[0].upper()}{rest[1:]}, {first}."


def _reworded(sentence: str) -> str | None:
    """With other words of the same meaning, and the clauses changed about where that can be done."""
    changed = 0

    def other(found: re.Match[str]) -> str:
        nonlocal changed
        instead = _OTHER_WORDS.get(found.group(), "")
        changed += bool(instead)
        return instead or found.group()

    made = _WORD.sub(other, sentence)
    return None if not changed else _reordered(made) or made


def _shortened(sentence: str) -> str | None:
    """Without an aside."""
    made = _ASIDE.sub("", sentence, count=1)
    return made if made != sentence and len(made.split()) >= _FEWEST_WORDS else None


_TRUE: dict[str, Callable[[str], str | None]] = {
    "as it is": _as_it_is,
    "reordered": _reordered,
    "reworded": _reworded,
    "shortened": _shortened,
}


def _falsified(
    sentence: str,
    held: str,
    paragraph: Paragraph,
    foreign: Sequence[Paragraph],
    sources: tuple[Source, ...],
    chance: random.Random,
) -> Iterator[Pair]:
    if (number := _NUMBER.search(sentence)) is not None:
        instead = str(int("".join(filter(str.isdigit, number.group()))) + chance.randint(3, 60))
        if instead not in held:
            made = sentence[: number.start()] + instead + sentence[number.end() :]
            yield Pair("another number", False, made, sources)
    if (name := _NAME.search(sentence)) is None:
        return
    for kind, text in (("a name from elsewhere", foreign[0].text), ("a name of the passage", paragraph.text)):
        names = sorted(set(_NAME.findall(text)) - {name.group()} - set(_WORD.findall(sentence)))
        if kind == "a name from elsewhere":
            names = [it for it in names if it not in held]
        if names:
            made = sentence[: name.start()] + chance.choice(names) + sentence[name.end() :]
            yield Pair(kind, False, made, sources)


def _answered(paragraph: Paragraph, sources: tuple[Source, ...], chance: random.Random) -> Iterator[Pair]:
    """Questions as statements: with their own answer, and with that of another question about the paragraph."""
    for question, answer in paragraph.asked:
        statement = question.rstrip("? ")
        if not _SUBJECT.match(statement):
            continue
        yield Pair("answered", True, f"{_SUBJECT.sub(f'{answer} ', statement)}.", sources)
        wrong = [other for _, other in paragraph.asked if other not in answer and answer not in other]
        if wrong:
            yield Pair("misanswered", False, f"{_SUBJECT.sub(f'{chance.choice(wrong)} ', statement)}.", sources)
