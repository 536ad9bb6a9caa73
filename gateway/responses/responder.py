"""The verbs on responses.

Invariants: what answers is the core of GatewayService's Ask, of Chat where functions may be called, so a response cites and
receipts as these do; a response that
is to be kept is durable before its end is told, unless it cannot be kept now: then the answer is given all the same, because
it has been computed and is right, and says that it is not kept.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace

from gateway.asking.asker import Asker
from gateway.asking.question import Answer, Sources
from gateway.chat import Chatter
from gateway.generation import Fallback, FinishReason, Generated, TextDelta
from gateway.responses import conversing, grounds
from gateway.responses.grounds import Grounds
from gateway.responses.nouns import (
    Asked,
    Citation,
    Error,
    Event,
    Item,
    Listing,
    Numbered,
    Response,
    Result,
    Search,
    Stage,
    Status,
    Whole,
)
from gateway.responses.peers import Archive, Documents
from gateway.responses.telling import Telling
from gateway.vector_stores.nouns import Attributes
from services.chassis.errors import Code, Failure, Reason

# What the core tells: with sources where passages are looked for, without where functions may be called.
Part = Sources | TextDelta | Answer | Generated
_WHOLE = (FinishReason.STOP, FinishReason.TOOL_CALLS)
# Input items that are read at a time.
_PAGE = 100
# What is no word on the response itself, as with a receipt: a service that is away, late, full or at fault.
_NOT_NOW = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED, Code.INTERNAL}
_ENDS = {Status.COMPLETED: Stage.COMPLETED, Status.INCOMPLETE: Stage.INCOMPLETE}


class Responder:
    """Answers inputs, and keeps what they came to.  ``now`` gives Unix time in seconds, ``new_id`` draws a UUID."""

    def __init__(
        self,
        asker: Asker,
        chatter: Chatter,
        archive: Archive,
        documents: Documents,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._asker = asker
        self._chatter = chatter
        self._archive = archive
        self._documents = documents
        self._now = now
        self._new_id = new_id

    async def create(self, asked: Asked) -> AsyncGenerator[Numbered]:
        """The events of a response.

        Raises RESPONSE_NOT_FOUND, CONVERSATION_TOO_LONG, FIELD_INVALID for an input that does not end with the user's
        turn, a search that has nowhere to look or what is said of sources without one, REQUEST_ID_REUSED, and as
        ``Asker.ask`` and ``Chatter.chat``; after the first event, the event that it failed comes before.
        """
        asked = replace(asked, request_id=asked.request_id or self._new_id())
        asked = replace(asked, input=tuple(self._named(item) for item in asked.input))
        previous = asked.settings.previous
        earlier = await self._archive.conversation(previous) if previous else []
        answering: AsyncGenerator[Part]
        if conversing.with_functions(asked, earlier):
            answering = self._chatter.chat(conversing.conversation(asked, earlier))
        else:
            answering = self._asker.ask(conversing.question(asked, earlier))
        identity = asked.request_id.replace("-", "").lower()
        telling = Telling(Response(f"resp_{identity}", self._now(), asked.settings), identity)
        number = 0
        async with aclosing(self._told(asked, telling, answering)) as events:
            async for event in events:
                yield Numbered(number, event)
                number += 1

    async def get(self, response: str) -> Response:
        """A response that was kept.  Raises RESPONSE_NOT_FOUND."""
        return await self._archive.response(response)

    async def remove(self, response: str) -> None:
        """Delete it.  Raises RESPONSE_NOT_FOUND."""
        await self._archive.remove(response)

    async def cancel(self, response: str) -> Response:
        """Raises RESPONSE_NOT_FOUND, else RESPONSE_NOT_IN_BACKGROUND: what is kept has ended."""
        found = await self._archive.response(response)
        raise Failure(Reason.RESPONSE_NOT_IN_BACKGROUND, name=found.response, field="response")

    async def input_items(self, response: str, listing: Listing) -> tuple[list[Item], bool]:
        """A page of what it was asked, and whether the list goes on.  Raises RESPONSE_NOT_FOUND, FIELD_INVALID."""
        return await self._archive.input_items(response, listing)

    async def _told(self, asked: Asked, telling: Telling, answering: AsyncGenerator[Part]) -> AsyncGenerator[Event]:
        begun = ended = False
        try:
            async with aclosing(answering) as parts:
                async for part in parts:
                    if not begun:
                        begun = True
                        known = grounds.before(part) if isinstance(part, Sources) else Grounds()
                        for event in telling.opening(known):
                            yield event
                    ended = isinstance(part, Answer | Generated)
                    async for event in self._events(asked, telling, part):
                        yield event
        except Failure as failure:
            if begun:
                # Of one that has ended it was tried already.
                yield await self._failed(asked, telling, failure, keep=asked.settings.store and not ended)
            raise

    async def _events(self, asked: Asked, telling: Telling, part: Part) -> AsyncIterator[Event]:
        match part:
            case Sources():
                searched: list[Event] = []
                if asked.settings.searched is not None:
                    searched += telling.search(await self._search(asked, part))
                for event in [*searched, *telling.answer(refused=_refusal(asked, part) is not None)]:
                    yield event
            case TextDelta():
                for event in telling.part(part):
                    yield event
            case Answer():
                whole = part.end.finish_reason in _WHOLE
                refusal = _refusal(asked, part.told)
                said = telling.delta(refusal) if refusal is not None else ()
                for event in [*said, *telling.end(_citations(part, _names(telling.response)), whole)]:
                    yield event
                telling.response = replace(telling.response, grounds=grounds.whole(part))
                yield await self._kept(asked, telling, part.end, part.fallbacks)
            case Generated():
                # One that said nothing is an answer all the same.
                empty = not (telling.begun or telling.response.output)
                for event in [*(telling.answer() if empty else ()), *telling.so_far(part.finish_reason in _WHOLE)]:
                    yield event
                yield await self._kept(asked, telling, part, part.fallbacks)

    async def _search(self, asked: Asked, told: Sources) -> Search:
        """What was found, with what its files are described by where somebody wants to see it."""
        sources = told.sources
        described: dict[tuple[str, str], Attributes] = {}
        if asked.include_results or asked.settings.store:
            places = list(dict.fromkeys((it.span.collection, it.span.document) for it in sources))
            found = await asyncio.gather(*(self._attributes(*place) for place in places))
            described = dict(zip(places, found, strict=True))
        results = tuple(
            Result(
                it.span.document,
                it.title or it.span.document,
                it.score,
                it.text,
                described.get((it.span.collection, it.span.document), {}),
                it.span,
            )
            for it in sources
        )
        query = told.rewrite.question if told.rewrite else conversing.last_words(asked)
        return Search((query,), results)

    async def _attributes(self, collection: str, document: str) -> Attributes:
        try:
            return (await self._documents.document(collection, document)).attributes
        except Failure as failure:
            # Deleted since it was found.
            if failure.reason not in (Reason.DOCUMENT_NOT_FOUND, Reason.COLLECTION_NOT_FOUND):
                raise
            return {}

    async def _kept(self, asked: Asked, telling: Telling, end: Generated, fallbacks: tuple[Fallback, ...]) -> Event:
        """The end, once the response is durable where it is to be."""
        status = Status.COMPLETED if end.finish_reason in _WHOLE else Status.INCOMPLETE
        response = replace(
            telling.response,
            status=status,
            usage=end.usage,
            receipt=end.receipt,
            timings=end.timings,
            fallbacks=fallbacks,
        )
        if asked.settings.store:
            response = await self._kept_or_told(asked, response)
        return Whole(_ENDS[response.status], response)

    async def _kept_or_told(self, asked: Asked, response: Response) -> Response:
        """As ``_stored``; where it cannot be kept now, the response, which says so, unless that was not to be."""
        try:
            return await self._stored(asked, response)
        except Failure as failure:
            if failure.code not in _NOT_NOW or not asked.settings.manner.fallbacks:
                raise
            why = f"It could not be stored. {failure.sentence}"
            told = Fallback("store", "an answer that is not kept, or not surely", why)
            settings = replace(response.settings, store=False)
            return replace(response, settings=settings, fallbacks=(*response.fallbacks, told))

    async def _stored(self, asked: Asked, response: Response) -> Response:
        """What stands under the response's id from now on.

        A request may come again whose answer nobody heard: what was kept first counts, unless that had failed.  Raises
        REQUEST_ID_REUSED where it was another request.
        """
        try:
            await self._archive.keep(response, asked.input)
        except Failure as failure:
            if failure.reason is not Reason.RESPONSE_EXISTS:
                raise
        else:
            return response
        kept = await self._archive.response(response.response)
        if kept.settings != asked.settings or not await self._asked_before(asked, kept.response):
            raise Failure(Reason.REQUEST_ID_REUSED, request_id=asked.request_id)
        if kept.status is not Status.FAILED:
            return kept
        await self._archive.remove(kept.response)
        await self._archive.keep(response, asked.input)
        return response

    async def _asked_before(self, asked: Asked, response: str) -> bool:
        """Whether a response that is kept was asked the same; items have other ids each time."""
        items: list[Item] = []
        more = True
        while more:
            after = items[-1].item if items else ""
            page, more = await self._archive.input_items(response, Listing(_PAGE, oldest_first=True, after=after))
            items += page
        return [item.content for item in items] == [item.content for item in asked.input]

    async def _failed(self, asked: Asked, telling: Telling, failure: Failure, *, keep: bool) -> Event:
        error = Error(failure.reason.name, failure.sentence)
        response = replace(telling.response, status=Status.FAILED, error=error)
        if keep:
            # That it failed is told all the same.
            with suppress(Failure):
                await self._archive.keep(response, asked.input)
        return Whole(Stage.FAILED, response)

    def _named(self, item: Item) -> Item:
        # Whatever a client calls it: what it sends back may be in two responses.
        return replace(item, item=f"{conversing.prefix(item)}_{self._new_id().replace('-', '')}")


def _refusal(asked: Asked, told: Sources) -> str | None:
    """What is said in place of an answer that was to have a shape; None where there is an answer."""
    if asked.settings.shape is None or told.abstention is None or not told.abstention.abstained:
        return None
    return told.abstention.says


def _citations(answer: Answer, names: Mapping[str, str]) -> tuple[Citation, ...]:
    return tuple(
        Citation(
            it.span.document, names.get(it.span.document, it.span.document), it.answer_start, it.answer_end, it.span
        )
        for it in answer.citations
    )


def _names(response: Response) -> dict[str, str]:
    """The names of the files that were found, by id."""
    found = [item.content for item in response.output if isinstance(item.content, Search)]
    return {result.file: result.filename for search in found for result in search.results}
