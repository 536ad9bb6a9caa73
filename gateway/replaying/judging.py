"""What a difference means: the engine's numerics, or another answer.

An engine adds up in an order that depends on what it computes beside a request, so that two tokens which are nearly as
likely may change places.  Invariant: no answer is called exact or explained of which a token was not met.
"""

import hashlib
import struct
from collections.abc import Sequence

from gateway.generation import Receipt, Sampling
from gateway.replaying.nouns import Difference
from gateway.replaying.rebuilding import Rebuilt

# Two steps of bfloat16 between 16 and 32, where logits are: as far as two tokens that are computed in another order can
# come to stand apart by rounding alone.
TOLERANCE_NATS = 0.25
# How many rivals an engine is asked to tell, which is as many as it tells.
RIVALS = 20


def tokens_digest(token_ids: Sequence[int]) -> str:
    """Digest (sha256:…) of the ids packed as little-endian int32, as receipts have it."""
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(token_ids)}i', *token_ids)).hexdigest()}"


def reason_not_to_follow(found: Difference, sampling: Sampling, rebuilt: Rebuilt) -> str:
    """Why a text cannot be gone on with from a difference; empty where it can: nothing but its tokens has a say then."""
    if sampling.temperature:
        return "The answer was sampled: by chance, which a rounding may have led elsewhere, so this decides nothing."
    if _adjusted(sampling):
        return "Penalties or a bias had a say beside the weights, so how likely they find a token decides nothing."
    if rebuilt.shape is not None or (rebuilt.tools is not None and rebuilt.tools.tools):
        return "The answer was held to a shape, so that what follows cannot be asked for."
    if not near(found):
        return "How likely it was is not known."
    return ""


def _adjusted(sampling: Sampling) -> bool:
    """Whether something else than the weights has a say in which token is the likeliest."""
    penalties = sampling.frequency_penalty or sampling.presence_penalty or (sampling.repetition_penalty or 1.0) != 1.0
    allowed = sampling.logit_bias or sampling.bad_words or sampling.allowed_token_ids or sampling.min_tokens
    return bool(penalties or allowed)


def near(found: Difference) -> bool:
    """Whether rounding alone may have chosen the answer's token."""
    return found.margin is not None and found.margin <= TOLERANCE_NATS


def surely_apart(found: Difference, sampling: Sampling) -> bool:
    """Whether rounding alone cannot have chosen it: it, or the least likely of those that were told, is too far away.

    Of what was sampled, or adjusted, only what goes on past its end is.
    """
    if found.made is None:
        return True
    if sampling.temperature or _adjusted(sampling):
        return False
    if found.margin is not None:
        return found.margin > TOLERANCE_NATS
    return bool(found.made.top) and found.made.logprob - found.made.top[-1].logprob > TOLERANCE_NATS


def told(found: Difference) -> str:
    """A difference in words."""
    if found.made is None:
        return f"The replay ended at its token limit, after {found.position} tokens; the answer goes on."
    made = f"At token {found.position} (character {found.start}) the weights say {found.made.token!r}"
    if found.rival is None or found.margin is None:
        return f"{made}; what the answer has there is none of the {len(found.made.top)} likeliest tokens."
    return (
        f"{made}; the answer has {found.rival.token!r} there, rank {found.rank}, {found.margin:.3f} nats less likely "
        f"(rounding can account for {TOLERANCE_NATS})."
    )


def circumstances(receipt: Receipt, again: Receipt) -> str:
    """What was not as it was then, where anything was; empty where nothing is known to be."""
    changed = [
        f"{name} was {before or 'not told'} and is {now or 'not told'}"
        for name, before, now in (
            ("the engine's build", receipt.engine_build, again.engine_build),
            ("the chat template", receipt.template_digest, again.template_digest),
        )
        if before != now
    ]
    cached = receipt.usage.cached_prompt_tokens, again.usage.cached_prompt_tokens
    if cached[0] != cached[1]:
        changed.append(f"{cached[0]} tokens of the prompt were cached then and {cached[1]} are now")
    return f" Not as it was: {'; '.join(changed)}." if changed else ""
