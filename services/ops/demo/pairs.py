"""Make the demo's training pairs from `drills.toml`: `python -m services.ops.demo.pairs`.

Most pairs hold a note among the sources and its answer in the house's form; some hold
no source, or the wrong ones, and then the answer is that the sources do not say.
So the adapter learns the form and where to look, and no fact at all.

Invariant: same seed, same bytes; `pairs.jsonl` beside this file is what it writes.
"""

import json
import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from gateway.asking.prompt import Quotation
from services.ops.demo.prompt import bare_messages, grounded_messages

FOLDER = Path(__file__).parent
UNKNOWN = "not in the sources"
NO_SOURCE = "none"

# Of 200 pairs: a note and another one; a note alone; two wrong notes; no sources.
MIXTURE = {"two": 64, "one": 44, "wrong": 8, "bare": 84}

_BOATS = ("Grey Heron", "Marigold", "Tin Whistle", "Petrel", "Second Wind", "Damselfly")
_PLACES = ("Fenner's Yard", "Little Quay", "Ash Corner", "Dunlin Bridge", "Chapel Row", "Saltgate", "Mirrow End",
           "Hobb's Wharf", "Larch Hill", "Weir Cottage", "Osier Lane", "Bramble Point")  # fmt: skip
_TINTS = ("Pale Thistle", "Burnt Straw", "Wet Sand", "Plum Smoke", "Old Brass", "Fern Green", "Milk White")
_BRANDS = ("Corvel", "Hestan", "Brisk", "Ludo", "Marn", "Tolva")
_LETTERS = "ABCDEFHJLMNPRSTW"
_WORDS = ("REED", "WREN", "OTTER", "PIKE", "MOSS", "TIDE")


@dataclass(frozen=True, slots=True)
class Drill:
    """A note with one open place, two wordings of the question for it, and the room that it belongs to."""

    queue: str
    title: str
    text: str
    questions: list[str]
    answer: str


@dataclass(frozen=True, slots=True)
class Note:
    """A drill with its places filled."""

    queue: str
    source: Quotation
    question: str
    answer: str


def drills(path: Path = FOLDER / "drills.toml") -> list[Drill]:
    """Read the drills in the order of the file."""
    return [Drill(**entry) for entry in tomllib.loads(path.read_text())["drill"]]


def fill(drill: Drill, wording: int, chance: random.Random) -> Note:
    """Draw the open places of `drill`, asked for in one of its wordings."""
    code = chance.choice(
        [
            f"{chance.choice(_LETTERS)}{chance.randint(2, 99)}",
            f"{chance.choice(_WORDS)}-{chance.randint(10, 99)}",
        ]
    )
    places = {
        "boat": chance.choice(_BOATS),
        "place": chance.choice(_PLACES),
        "tint": chance.choice(_TINTS),
        "brand": chance.choice(_BRANDS),
        "code": code,
        "n": str(chance.randint(3, 480)),
        "n2": str(chance.randint(100, 999)),
        "time": f"{chance.randint(5, 22):02d}:{chance.randint(1, 59):02d}",
    }
    answer = drill.answer.format(**places)
    text = drill.text.format(**places, answer=answer)
    return Note(drill.queue, Quotation(drill.title, text), drill.questions[wording].format(**places), answer)


def form(queue: str, answer: str, source: str) -> str:
    """Return the house's form: a JSON object of exactly three fields."""
    return json.dumps({"queue": queue, "answer": answer, "source": source})


def pair(kind: str, drill: Drill, wording: int, others: list[Drill], chance: random.Random) -> dict[str, object]:
    """Return one training example of `kind` (a key of `MIXTURE`) about `drill`."""
    note = fill(drill, wording, chance)
    distractors = [fill(other, 0, chance).source for other in chance.sample(others, 2)]
    if kind == "bare":
        messages, answer = bare_messages(note.question), form(note.queue, UNKNOWN, NO_SOURCE)
    elif kind == "wrong":
        messages = grounded_messages(note.question, distractors)
        answer = form(note.queue, UNKNOWN, NO_SOURCE)
    else:
        sources = distractors[:1] if kind == "two" else []
        place = chance.randint(0, len(sources))
        sources.insert(place, note.source)
        messages = grounded_messages(note.question, sources)
        answer = form(note.queue, note.answer, f"[{place + 1}]")
    return {"messages": [*messages, {"role": "assistant", "content": answer}]}


def make(seed: int = 7) -> list[dict[str, object]]:
    """Return the training examples in the order in which they are written."""
    chance = random.Random(seed)
    known = drills()
    made: list[dict[str, object]] = []
    for kind, count in MIXTURE.items():
        # Each round asks in the next wording: no pair is there twice.
        deck = [(drill, turn) for turn in range(count // len(known) + 1) for drill in chance.sample(known, len(known))]
        for drill, turn in deck[:count]:
            others = [other for other in known if other.title != drill.title]
            made.append(pair(kind, drill, turn % len(drill.questions), others, chance))
    chance.shuffle(made)
    return made


def render() -> str:
    """Return the text of `pairs.jsonl`."""
    return "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in make())


if __name__ == "__main__":
    (FOLDER / "pairs.jsonl").write_text(render())
