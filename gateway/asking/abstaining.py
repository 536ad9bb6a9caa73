"""Whether to answer: what the retriever says of its collections, under the policy that counts.

Invariant: a question that the collections seem not to answer, or for which no passage is left, is answered as if they did
only under the policy OFF.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.asking.citations import unmarked
from gateway.asking.retrieval import Abstention, Answerability, Policy, Source
from services.chassis.sources_prompt import NOT_FOUND

HEDGE = "The sources may not hold the answer. "
# What is told where nothing of it is known: a search that is not of vectors and keywords both has no verdict.
UNDECIDED = "an answer, whether or not the collections hold it"
WHY_UNDECIDED = "only a search by vectors and keywords both tells whether the collections hold the answer"
_REFUSAL = f"The answer is {NOT_FOUND}."


def decided(wanted: Policy, told: Answerability | None, nearest: Sequence[Source]) -> Abstention | None:
    """What is done: by the request's policy, else the collections', else HEDGE.

    None where no search could tell and there is something to answer from, or the policy is OFF: then the model answers.
    """
    stated = wanted if wanted is not Policy.UNSPECIFIED or told is None else told.policy
    policy = stated if stated is not Policy.UNSPECIFIED else Policy.HEDGE
    if told is None:
        if nearest or policy is Policy.OFF:
            return None
        told = Answerability(0.0, 0.0, answerable=False)
    found = Abstention(policy, told.score, told.threshold, told.answerable)
    if (told.answerable and nearest) or policy is Policy.OFF:
        return found
    if policy is Policy.STRICT:
        return replace(found, abstained=True, says=refusal(nearest))
    return replace(found, hedged=True, says=HEDGE)


def refusal(nearest: Sequence[Source]) -> str:
    """What is said instead of an answer: that there is none, and which passages are the nearest, each with its marker."""
    if not nearest:
        return _REFUSAL
    named = "; ".join(f"{unmarked(it.title or it.span.document)} [{it.span.marker}]" for it in nearest)
    return f"{_REFUSAL} The nearest passages: {named}."
