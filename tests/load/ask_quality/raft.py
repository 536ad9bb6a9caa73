"""Training rows whose sources are what the retriever really finds: retrieval-augmented fine-tuning.

As in Zhang et al., "RAFT", 2024, a share of the rows has only sources that do not answer, so that the adapter learns to
say so; unlike there the others have their sources as found, distractors included, in the gateway's own prompt.
Invariant: nothing that is tested on is searched or asked here.
"""

import random
from collections.abc import Mapping, Sequence

from trivium_client import Trivium
from trivium_client.document_nouns import Hit

from gateway.asking.prompt import Quotation, grounded
from services.chassis.sources_prompt import NOT_FOUND
from tests.load.ask_quality.locating import Gold, locate
from tests.load.ask_quality.subjects import Fact, Posed

SOURCES = 3
_WITHOUT = 0.2
_SHUFFLED = 0.5


def rows(
    client: Trivium, collection: str, posed: Sequence[Posed], texts: Mapping[str, str], chance: random.Random
) -> list[dict[str, object]]:
    """A row a question, as the trainer takes it; ``texts`` are the documents as the retriever keeps them."""
    made: list[dict[str, object]] = []
    for asked in posed:
        found = list(client.docs.search(asked.text, collections=[collection], top_k=2 * SOURCES))
        golds = [(fact, gold) for fact in asked.facts if (gold := locate(fact, texts[fact.document]))]
        if chance.random() < _WITHOUT:
            found = [hit for hit in found if not any(holds(hit, gold) for _, gold in golds)]
        sources = found[:SOURCES]
        if chance.random() < _SHUFFLED:
            chance.shuffle(sources)
        messages = grounded(asked.text, [Quotation(hit.title, hit.text) for hit in sources])
        turns = [{"role": message.speaker.value, "content": message.content} for message in messages]
        made.append({"messages": [*turns, {"role": "assistant", "content": _answer(asked, golds, sources)}]})
    return made


def holds(hit: Hit, gold: Gold) -> bool:
    """Whether a passage has the whole of a gold one."""
    span = hit.span
    return span.document == gold.document and span.start <= gold.start and gold.end <= span.end


def _answer(asked: Posed, golds: Sequence[tuple[Fact, Gold]], sources: Sequence[Hit]) -> str:
    """Each fact that stands among the sources, and the marker of the first one that has it."""
    told = []
    for fact, gold in golds:
        marker = next((number for number, hit in enumerate(sources, start=1) if holds(hit, gold)), 0)
        if marker:
            told.append(f"{fact.words} [{marker}]")
    return " ".join(told) or NOT_FOUND
