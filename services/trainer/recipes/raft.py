"""A question over its own passage among others (RAFT), as the gateway asks with what retrieval brings.

Invariant: what stands beside a question depends on the question, its passage, the dataset's passages and the seed; the
pool keeps a bounded number of passages, the same ones in whatever order they are seen.
"""

import hashlib
import heapq
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.chassis.sources_prompt import NOT_FOUND, SYSTEM_TEXT, Quotation, asked
from services.trainer.data.rows import Labelled
from services.trainer.recipes.answer_from_context import FEWEST_DISTRACTORS, MOST_DISTRACTORS

# Passages to draw from: so many that none is learned by heart for standing everywhere, and a bounded part of memory.
POOL_PASSAGES = 4096
# A first line as long as this is a heading, and the title that the gateway would show.
_HEADING_CHARACTERS = 80
_NO_HEADING = "passage"
# Shorter answers stand in many passages by chance.
_TELLING_CHARACTERS = 4
_MARKER = re.compile(r"\[(\d{1,9})\]")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model is told, what it is asked, and what it answers."""

    system: str
    user: str
    answer: str


class Sources:
    """The passages of a dataset, from which other questions get theirs."""

    def __init__(self, pool: Sequence[str], seed: int) -> None:
        """Use `pool`, in its order, and the job's seed."""
        self._pool = pool
        self._seed = seed

    @classmethod
    def of(cls, records: Iterable[Labelled], seed: int, most: int = POOL_PASSAGES) -> "Sources":
        """Keep the `most` passages whose digests under the seed are the smallest: a sample that knows no order."""
        kept: list[tuple[int, str]] = []
        held: set[int] = set()
        for record in records:
            for passage in passages(record.fields.get("context")):
                place = -_digest(seed, "pool", passage)
                if place in held or (len(kept) == most and place <= kept[0][0]):
                    continue
                held.add(place)
                gone = heapq.heappushpop(kept, (place, passage)) if len(kept) == most else None
                if gone is None:
                    heapq.heappush(kept, (place, passage))
                else:
                    held.discard(gone[0])
        return cls([passage for _, passage in sorted(kept, reverse=True)], seed)

    def asked(self, question: str, context: object, answer: str, refused_ratio: float) -> Asked:
        """Return the conversation.  `context` is the record's own: a text or texts; without any, only others stand there.

        The answer cites the passage that holds it; markers that it has already count the record's own passages, and are
        numbered anew.  In `refused_ratio` of the rows these are left out, and the answer is that they do not hold it.
        """
        own = passages(context)
        chance = random.Random(_digest(self._seed, question, answer, *own))
        refused = bool(own) and chance.random() < refused_ratio
        shown = self._others(chance, own, answer)
        gold = _holding(own, answer)
        if not refused:
            for passage in own:
                shown.insert(chance.randint(0, len(shown)), passage)
        if refused:
            said = NOT_FOUND
        elif _MARKER.search(answer):
            said = _renumbered(answer, own, shown)
        else:
            said = f"{answer.rstrip()} [{shown.index(gold) + 1}]" if own else answer
        return Asked(SYSTEM_TEXT, asked(question, [_quotation(passage) for passage in shown]), said)

    def _others(self, chance: random.Random, own: Sequence[str], answer: str) -> list[str]:
        """Passages of other questions.  None holds the answer, which in front of it would be called missing."""
        wanted = chance.randint(FEWEST_DISTRACTORS, MOST_DISTRACTORS)
        telling = _plain(answer) if len(_plain(answer)) >= _TELLING_CHARACTERS else None
        found: list[str] = []
        for place in chance.sample(range(len(self._pool)), min(len(self._pool), 4 * MOST_DISTRACTORS)):
            passage = self._pool[place]
            if passage not in own and (telling is None or telling not in _plain(passage)):
                found.append(passage)
            if len(found) == wanted:
                break
        return found


def passages(context: object) -> list[str]:
    """The passages of a record's context, each once and without what surrounds it."""
    texts = context if isinstance(context, list) else [context]
    found = (text.strip() for text in texts if isinstance(text, str))
    return list(dict.fromkeys(text for text in found if text))


def _holding(own: Sequence[str], answer: str) -> str:
    """The first passage that has the answer's words; the first of all where none has them as they stand."""
    words = _plain(answer)
    return next((passage for passage in own if words in _plain(passage)), own[0] if own else "")


def _renumbered(answer: str, own: Sequence[str], shown: Sequence[str]) -> str:
    """The answer with the numbers that its passages have in the prompt; a marker that counts further is dropped."""

    def number(found: re.Match[str]) -> str:
        place = int(found.group(1)) - 1
        return f"[{shown.index(own[place]) + 1}]" if 0 <= place < len(own) else ""

    return _MARKER.sub(number, answer).rstrip()


def _quotation(passage: str) -> Quotation:
    first, _, rest = passage.partition("\n")
    heading = first.strip().lstrip("#").strip()
    if rest.strip() and 0 < len(heading) <= _HEADING_CHARACTERS:
        return Quotation(heading, rest)
    return Quotation(_NO_HEADING, passage)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!?")


def _digest(seed: int, *parts: str) -> int:
    joined = "\0".join([str(seed), *parts]).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=16).digest())
