"""An answer computed again from its receipt, and compared with what was given.

First the prompt: where its tokens are not those of the receipt nothing is generated.  Then the answer, under the very
version and sampling that the receipt names.  Where a given text leaves what the weights say by no more than rounding, the
weights are asked what follows the text's own token, until its end: so a text that begins by rounding and goes on by
invention is told apart.  Invariant: nothing is generated here by other weights than the receipt's, whatever their name
means now.
"""

import asyncio
from dataclasses import replace

from gateway.generation import Prompt, Receipt, Several, TokenIds
from gateway.names import BASE
from gateway.replaying import judging
from gateway.replaying.generating import Generating, Made, Terms
from gateway.replaying.keeping import Keeping, requests_of
from gateway.replaying.locating import difference, doubtful
from gateway.replaying.nouns import Named, Recalled, Replay, Revisited, Verdict
from gateway.replaying.peers import Receipts, SourceTexts, Tokenizer, Versions
from gateway.replaying.rebuilding import Rebuilt, rebuilt
from gateway.routing import ModelKind, Route
from gateway.side_by_side import digest_of
from services.chassis.errors import Failure, Reason

# Each costs a generation.
MOST_FOLLOWED = 8
MOST_TRIED = 4
_GONE = {
    Reason.BASE_MISMATCH,
    Reason.BASE_NOT_FOUND,
    Reason.MODEL_NOT_FOUND,
    Reason.VERSION_NOT_FOUND,
    Reason.WEIGHTS_REFUSED,
}


class Replayer:
    """Computes answers again."""

    def __init__(
        self,
        receipts: Receipts,
        versions: Versions,
        tokenizer: Tokenizer,
        texts: SourceTexts,
        generating: Generating,
        keeping: Keeping,
    ) -> None:
        self._receipts = receipts
        self._versions = versions
        self._tokenizer = tokenizer
        self._texts = texts
        self._generating = generating
        self._keeping = keeping

    async def receipt(self, name: str) -> Receipt:
        """The receipt of a request, by its id or a name that was made of it.  Raises RECEIPT_NOT_FOUND."""
        for request_id in requests_of(name):
            try:
                return await self._receipts.receipt(request_id)
            except Failure as failure:
                if failure.reason is not Reason.RECEIPT_NOT_FOUND:
                    raise
        raise Failure(Reason.RECEIPT_NOT_FOUND, name=name)

    async def replay(self, recalled: Recalled | Named, receipt: Receipt) -> Replay:
        """What becomes of a request when it is computed again; ``receipt`` is its own, whatever name it was found by.

        Raises REQUEST_NOT_KEPT for one that is named and not found, FIELD_INVALID where the request cannot be the
        receipt's, and what the generator refuses with.
        """
        recalled = replace(recalled, request_id=receipt.request_id)
        collections = await self._revisited(receipt)
        return replace(await self._replayed(recalled, receipt), collections=collections)

    async def _revisited(self, receipt: Receipt) -> tuple[Revisited, ...]:
        """The collections that the answer is from, as they are now."""
        present = await asyncio.gather(*(self._texts.version(item.collection) for item in receipt.collections))
        return tuple(
            Revisited(then.collection, then.version, now)
            for then, now in zip(receipt.collections, present, strict=True)
        )

    async def _replayed(self, recalled: Recalled | Named, receipt: Receipt) -> Replay:
        if not receipt.base_digest:
            return Replay(Verdict.UNDECIDED, _without_tokens(receipt), receipt)
        whole = await self._keeping.found(recalled, receipt) if isinstance(recalled, Named) else recalled
        return await self._computed(whole, receipt)

    async def _computed(self, recalled: Recalled, receipt: Receipt) -> Replay:
        try:
            route = await self._route(receipt)
            again = await rebuilt(recalled, receipt, route.prompt_format, self._texts)
            prompts = again.prompt.prompts if isinstance(again.prompt, Several) else (again.prompt,)
            each = [await self._tokens(prompt, again, route) for prompt in prompts]
            digests = [judging.tokens_digest(token_ids) for token_ids in each]
            if (digests[0] if len(each) == 1 else digest_of(digests)) != receipt.prompt_tokens_digest:
                says = _other_prompt(recalled, receipt, again, sum(map(len, each)))
                return Replay(Verdict.PROMPT_DIFFERS, says, receipt, sources=again.sources)
            return await self._compared(Terms(receipt, route, each[0]), again)
        except Failure as failure:
            if failure.reason not in _GONE:
                raise
            return Replay(Verdict.WEIGHTS_GONE, f"The weights of this answer are gone. {failure.sentence}", receipt)

    async def _tokens(self, prompt: Prompt, again: Rebuilt, route: Route) -> tuple[int, ...]:
        if isinstance(prompt, TokenIds):
            return prompt.ids
        return await self._tokenizer.token_ids(prompt, again.tools, route.base, route.version)

    async def _route(self, receipt: Receipt) -> Route:
        """To the receipt's own version, whatever its name means now; to a base by its digest."""
        if receipt.version_digest:
            found = await self._versions.resolve(receipt.resolved_model)
            if found.version != receipt.version_digest:
                raise Failure(Reason.VERSION_NOT_FOUND, name=receipt.version_digest, fate="")
            return replace(found, requested=receipt.requested_model, fallback="")
        base = receipt.base_digest
        name = receipt.resolved_model or BASE
        return Route(receipt.requested_model, name, ModelKind.BASE, base=base, base_digest=base)

    async def _compared(self, terms: Terms, again: Rebuilt) -> Replay:
        made = await self._generating.whole(terms, again)
        told = Replay(Verdict.UNDECIDED, "", terms.receipt, made.receipt, made.text, sources=again.sources)
        several = isinstance(again.prompt, Several)
        same = _same_digests(terms.receipt, made.receipt) if several else _same_tokens(terms.receipt, made)
        if again.answer is None and same is False and not several:
            told = await self._searched(told, terms, again, made)
        elif again.answer is None:
            told = _by_tokens(told, same, several=several)
        elif same or again.shown(made.text) == again.answer:
            told = _by_text(told, again, made, same)
        else:
            told = await self._apart(told, terms, again, made)
        if told.verdict is Verdict.EXACT:
            return told
        return replace(told, explanation=told.explanation + judging.circumstances(terms.receipt, made.receipt))

    async def _searched(self, told: Replay, terms: Terms, again: Rebuilt, made: Made) -> Replay:
        """Of tokens that are not the receipt's, without a text to follow: whether one rounding leads to those."""
        for found in doubtful(made.tokens, judging.TOLERANCE_NATS)[:MOST_TRIED]:
            if judging.reason_not_to_follow(found, terms.receipt.sampling, again):
                break
            if _same_tokens(terms.receipt, await self._generating.gone_on(terms, made, found)):
                says = f"{judging.told(found)} With that token the weights give all that the receipt records."
                return replace(told, verdict=Verdict.EXPLAINED, explanation=says, differences=(found,))
        return _by_tokens(told, False)

    async def _apart(self, told: Replay, terms: Terms, again: Rebuilt, made: Made) -> Replay:
        """Of a text that is not what the weights say: where it leaves that, and whether by rounding, to its end."""
        answer, sampling = again.answer or "", terms.receipt.sampling
        if again.shown(made.text) != made.text:
            says = "The text is another one, and what left was not all that the model said, so that where is not known."
            return replace(told, explanation=says)
        followed = made
        while (found := difference(answer, followed.text, followed.tokens)) is not None:
            told = replace(told, differences=(*told.differences, found))
            says = " ".join(map(judging.told, told.differences))
            if judging.surely_apart(found, sampling):
                return replace(told, verdict=Verdict.DIFFERENT, explanation=says)
            why = judging.reason_not_to_follow(found, sampling, again)
            if not why and len(told.differences) > MOST_FOLLOWED:
                why = f"After {MOST_FOLLOWED} such tokens the text is not followed further."
            if why:
                return replace(told, explanation=f"{says} {why}")
            followed = await self._generating.gone_on(terms, followed, found)
        says = " ".join(map(judging.told, told.differences))
        if _same_tokens(terms.receipt, followed) is False:
            says = f"{says} All else is what the weights say, but not by the tokens that the receipt records."
            return replace(told, explanation=says)
        return replace(told, verdict=Verdict.EXPLAINED, explanation=f"{says} All else is what the weights say.")


def _without_tokens(receipt: Receipt) -> str:
    """What a request was whose answer no tokens were generated for."""
    if receipt.version_digest:
        return (
            f"These were vectors of texts, by the encoder {receipt.resolved_model} ({receipt.version_digest}); nothing was "
            "generated. Asked for again by that encoder they are the same, up to rounding."
        )
    return "No model made this answer: it was said from an abstention, a summary or an index, and has no tokens."


def _same_tokens(receipt: Receipt, made: Made) -> bool | None:
    """Whether these are the tokens that the receipt records; None where it is older than their digest."""
    recorded = receipt.completion_digest
    return judging.tokens_digest(made.token_ids) == recorded if recorded else None


def _same_digests(receipt: Receipt, again: Receipt) -> bool:
    """The same of several prompts, whose tokens a receipt records as the digest of their digests."""
    return again.completion_digest == receipt.completion_digest


def _by_tokens(told: Replay, same: bool | None, *, several: bool = False) -> Replay:
    """The verdict where no text was given."""
    if same:
        return replace(told, verdict=Verdict.EXACT, explanation="The weights give the tokens that the receipt records.")
    if same is None:
        says = "The receipt is older than the digest of an answer's tokens, and no text was given: nothing to compare with."
    else:
        says = "The weights give other tokens than the receipt records. With the answer's text it can be told where."
        if several:
            says = "The weights give other tokens than the receipt records; of several prompts it is not told where."
    return replace(told, explanation=says)


def _by_text(told: Replay, again: Rebuilt, made: Made, same: bool | None) -> Replay:
    """The verdict of a text that is what the weights say, or of one beside tokens that are."""
    answer = again.answer or ""
    if again.shown(made.text) != answer:
        says = "The weights give the tokens that the receipt records, and this text is not theirs: it was changed."
        if again.shown(made.text) == made.text and (found := difference(answer, made.text, made.tokens)):
            told = replace(told, differences=(found,))
            says = f"{says} {judging.told(found)}"
        return replace(told, verdict=Verdict.DIFFERENT, explanation=says)
    if same is False:
        says = "The weights give this text, but not by the tokens that the receipt records."
        return replace(told, explanation=says)
    what = "this text" if same is None else "this text, by the tokens that the receipt records"
    return replace(told, verdict=Verdict.EXACT, explanation=f"The weights give {what}.")


def _other_prompt(recalled: Recalled, receipt: Receipt, again: Rebuilt, tokens: int) -> str:
    """Why the prompt may be another one, as far as it can be known."""
    says = f"The request makes a prompt of {tokens} tokens; the receipt's had {receipt.usage.prompt_tokens}"
    says = f"{says}, and other ones." if tokens == receipt.usage.prompt_tokens else f"{says}."
    if again.missing:
        gone = ", ".join(f"[{item.span.marker}] {item.span.document}" for item in again.missing)
        return f"{says} The versions of these sources are gone: {gone}."
    if again.sources and not recalled.rewritten:
        return f"{says} If the question was rewritten, say as what; a document may have another title now."
    return f"{says} It is not the request that was answered, or the chat template has changed."
