"""Answers as the weights of a receipt give them: from the prompt on, and from the middle of an answer on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from gateway.answering import Answerer, Wish
from gateway.generation import Basis, Generated, Prompts, Receipt, TextDelta, TokenIds
from gateway.leaving import held
from gateway.policy.policing import Policing
from gateway.receipts import beside
from gateway.replaying.judging import RIVALS
from gateway.replaying.locating import Spelled, ends, spelled
from gateway.replaying.nouns import Difference
from gateway.replaying.rebuilding import Rebuilt
from gateway.routing import Route
from gateway.stages import Stopwatch
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Made:
    """An answer as it was computed: text and tokens of its first choice, and the ids of all, one after another."""

    text: str
    tokens: tuple[Spelled, ...]
    token_ids: tuple[int, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Terms:
    """What an answer is computed under: the receipt, the route to its weights, and its prompt's tokens, or the first one's."""

    receipt: Receipt
    route: Route
    token_ids: tuple[int, ...]


class Generating:
    """Generates, each time recorded under an id of its own."""

    def __init__(
        self,
        answerer: Answerer,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        policing: Policing | None = None,
    ) -> None:
        self._answerer = answerer
        self._policing = policing
        self._clock = clock
        self._new_id = new_id

    async def whole(self, terms: Terms, again: Rebuilt) -> Made:
        """The answer from its beginning, unless a content policy would not let all of it leave.

        Raises CONTENT_REFUSED, POLICY_UNAVAILABLE, and as ``Answerer.answer``.
        """
        wish = Wish(sampling=terms.receipt.sampling, tools=again.tools, shape=again.shape)
        with held():
            made = await self._generated(again.prompt, terms, wish)
        if self._policing is not None:
            await self._policing.untouched(made.text, terms.receipt.request_id, terms.receipt.requested_model)
        return made

    async def gone_on(self, terms: Terms, made: Made, found: Difference) -> Made:
        """``made`` up to a difference, then the answer's own token there, then what the weights say after it."""
        assert found.rival is not None
        taken = (*made.token_ids[: found.position], found.rival.token_id)
        # The end of an answer has no text.
        own = "" if ends(found.rival.token) else found.rival.token
        text = made.text[: found.start] + own
        tokens = (*made.tokens[: found.position], Spelled(found.rival, found.start, len(text)))
        room = (terms.receipt.sampling.max_tokens or 0) - len(taken)
        if not own or room < 1:
            return Made(text, tokens, taken, made.receipt)
        wish = Wish(sampling=replace(terms.receipt.sampling, max_tokens=room))
        with held():
            rest = await self._generated(TokenIds((*terms.token_ids, *taken)), terms, wish)
        moved = tuple(Spelled(item.told, item.start + len(text), item.end + len(text)) for item in rest.tokens)
        return Made(text + rest.text, (*tokens, *moved), (*taken, *rest.token_ids), made.receipt)

    async def _generated(self, prompt: Prompts, terms: Terms, wish: Wish) -> Made:
        wish = replace(
            wish,
            request_id=beside(terms.receipt.request_id, f"replay-{self._new_id()}"),
            sampling=replace(wish.sampling, logprobs=RIVALS),
        )
        deltas: dict[int, list[TextDelta]] = {}
        watch = Stopwatch(self._clock)
        basis = Basis(terms.receipt.sources, terms.receipt.collections)
        async with aclosing(self._answerer.answer(prompt, wish, terms.route, watch, basis)) as parts:
            async for part in parts:
                if isinstance(part, Generated):
                    await self._answerer.record(part)
                    return _of(deltas, part.receipt)
                deltas.setdefault(part.choice, []).append(part)
        raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="generator")


def _of(deltas: Mapping[int, Sequence[TextDelta]], receipt: Receipt) -> Made:
    first = deltas.get(0, ())
    ids = (token.token_id for choice in sorted(deltas) for delta in deltas[choice] for token in delta.logprobs)
    return Made("".join(delta.text for delta in first), tuple(spelled(first)), tuple(ids), receipt)
