"""Whether to answer: what the retriever says of its collections, under the policy that counts.

Invariant: a question that the collections seem not to answer is answered as if they did only under the policy OFF.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.asking.retrieval import Abstention, Answerability, Policy, Source
from services.chassis.sources_prompt import NOT_FOUND

HEDGE = "The sources may not hold the answer. "
_REFUSAL = f"The answer is {NOT_FOUND}."


def decided(wanted: Policy, told: Answerability | None, nearest: Sequence[Source]) -> Abstention | None:
    """What is done: by the request's policy, else the collections', else HEDGE.  None where no search could tell."""
    if told is None:
        return None
    stated = wanted if wanted is not Policy.UNSPECIFIED else told.policy
    policy = stated if stated is not Policy.UNSPECIFIED else Policy.HEDGE
    found = Abstention(policy, told.score, told.threshold, told.answerable)
    if told.answerable or policy is Policy.OFF:
        return found
    if policy is Policy.STRICT:
        return replace(found, abstained=True, says=refusal(nearest))
    return replace(found, hedged=True, says=HEDGE)


def refusal(nearest: Sequence[Source]) -> str:
    """What is said instead of an answer: that there is none, and which passages are the nearest, each with its marker."""
    if not nearest:
        return _REFUSAL
    named = "; ".join(f"{source.title or source.span.document} [{source.span.marker}]" for source in nearest)
    return f"{_REFUSAL} The nearest passages: {named}."
