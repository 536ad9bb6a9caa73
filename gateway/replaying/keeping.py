"""The request of an earlier answer where its tenant has it kept: as a stored response, or as a line of a batch.

Invariant: nothing is kept for a replay: what is found here was stored because somebody asked for that, and is gone as
soon as he deletes it.
"""

import re
import uuid
from collections.abc import Callable

from gateway.asking.question import Question, Unsupported
from gateway.chat import Conversation
from gateway.generation import Receipt, ToolCall
from gateway.replaying.nouns import Line, Named, Recalled
from gateway.replaying.peers import Lines
from gateway.responses import conversing
from gateway.responses.nouns import Asked, Item, Listing, Response, Search, Status, Turn
from gateway.responses.peers import Archive
from services.chassis.errors import Failure, Reason

# What ids are called that were made of a request's: a response's, and those of the lines of a batch's output.
_NAMED = re.compile(r"(?:resp_|batch_req_)([0-9a-f]{32})")
_RESPONSE = "resp_"
# What stands before a request's id in the name that an OpenAI client sees.
_SAID = re.compile(r"(?:chatcmpl|cmpl)-(.+)")
# Input items that are read at a time.
_PAGE = 100


def requests_of(name: str) -> tuple[str, ...]:
    """The ids that the request behind a name may have, the likelier first; a name that was made of none is one itself.

    A response's name is small whatever its request's id was, under which the receipt is kept as it came: a client prints
    ids small or in capitals.
    """
    named = _NAMED.fullmatch(name)
    if named is None:
        said = _SAID.fullmatch(name)
        return (name,) if said is None else (said.group(1), name)
    plain = str(uuid.UUID(named.group(1)))
    return (plain, plain.upper()) if name.startswith(_RESPONSE) else (plain,)


class Keeping:
    """Finds requests by their ids.  ``read`` gives what a batch's line asks, None for one that no model answers."""

    def __init__(
        self, archive: Archive, lines: Lines, read: Callable[[Line], Conversation | Question | Asked | None]
    ) -> None:
        self._archive = archive
        self._lines = lines
        self._read = read

    async def found(self, named: Named, receipt: Receipt) -> Recalled:
        """The request, and of a response its text.  Raises REQUEST_NOT_KEPT."""
        found = await self._response(named) or await self._line(named, receipt)
        if found is None:
            raise Failure(Reason.REQUEST_NOT_KEPT, name=named.request_id, field="request")
        return found

    async def _response(self, named: Named) -> Recalled | None:
        name = f"{_RESPONSE}{named.request_id.replace('-', '').lower()}"
        if not _NAMED.fullmatch(name):
            return None
        try:
            response = await self._archive.response(name)
            asked = await self._asked(response, named.request_id)
        except Failure as failure:
            # Deleted, or what it goes on from was.
            if failure.reason is not Reason.RESPONSE_NOT_FOUND:
                raise
            return None
        answer = _text(response) if named.answer is None else named.answer
        return Recalled(named.request_id, asked, answer, named.rewritten or _looked_for(response))

    async def _line(self, named: Named, receipt: Receipt) -> Recalled | None:
        line = await self._lines.line(named.request_id, receipt.complete_time_seconds)
        asked = None if line is None else self._read(line)
        if asked is None:
            return None
        whole = await self._made(asked) if isinstance(asked, Asked) else asked
        return Recalled(named.request_id, whole, named.answer, named.rewritten)

    async def _asked(self, response: Response, request_id: str) -> Conversation | Question:
        items: list[Item] = []
        more = True
        while more:
            after = items[-1].item if items else ""
            page, more = await self._archive.input_items(
                response.response, Listing(_PAGE, oldest_first=True, after=after)
            )
            items += page
        return await self._made(Asked(response.settings, tuple(items), request_id))

    async def _made(self, asked: Asked) -> Conversation | Question:
        """What the core was asked.  Raises RESPONSE_NOT_FOUND for what it went on from."""
        previous = asked.settings.previous
        earlier = await self._archive.conversation(previous) if previous else []
        if conversing.with_functions(asked, earlier):
            return conversing.conversation(asked, earlier)
        return conversing.question(asked, earlier)


def _text(response: Response) -> str | None:
    """What the answer said, None where that is not all: of calls and of sentences that were withheld no text is known.

    Nor of a response that failed: what it said last may have been on its way.
    """
    if response.status is Status.FAILED:
        return None
    said = [item.content for item in response.output]
    withheld = response.settings.manner.unsupported is Unsupported.WITHHOLD
    if withheld or any(isinstance(content, ToolCall) for content in said):
        return None
    return "".join(content.text for content in said if isinstance(content, Turn))


def _looked_for(response: Response) -> str:
    searches = (item.content for item in response.output if isinstance(item.content, Search))
    return next((search.queries[0] for search in searches if search.queries), "")
