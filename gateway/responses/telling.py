"""The events of one response, in the order that OpenAI's clients expect, and the response that they add up to.

Invariant: the deltas of a text are the text, its citations are told after it and before it is done, and the last event
holds every item that was told as done.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gateway.generation import Speaker, TextDelta, ToolCall
from gateway.responses.grounds import Grounds
from gateway.responses.nouns import (
    Arguments,
    Citation,
    Cited,
    Event,
    Item,
    ItemBegun,
    ItemDone,
    ItemStatus,
    Phase,
    Response,
    Search,
    Searching,
    Stage,
    Text,
    TextStage,
    Turn,
    Whole,
)


@dataclass(slots=True)
class Telling:
    """Tells a response as it comes to be.  ``identity`` is what its items' ids end in."""

    response: Response
    identity: str
    _text: list[str] = field(default_factory=list)
    _call: ToolCall | None = None
    _saying: bool = False
    _refused: bool = False

    def opening(self, grounds: Grounds) -> Iterator[Event]:
        """It was taken on, and this is known before its text."""
        self.response = replace(self.response, grounds=grounds)
        yield Whole(Stage.CREATED, self.response)
        yield Whole(Stage.IN_PROGRESS, self.response)

    def search(self, search: Search) -> Iterator[Event]:
        """A search, from its beginning to what it found."""
        index, item = len(self.response.output), f"fs_{self.identity}"
        yield ItemBegun(index, Item(item, replace(search, results=()), ItemStatus.IN_PROGRESS))
        for phase in Phase:
            yield Searching(index, item, phase)
        yield self._done(index, Item(item, search))

    def answer(self, *, refused: bool = False) -> Iterator[Event]:
        """The answer begins, or what is said in its place."""
        self._saying, self._refused = True, refused
        turn = Turn(Speaker.ASSISTANT, (), refused=refused)
        yield ItemBegun(self._index, Item(self._item, turn, ItemStatus.IN_PROGRESS))
        yield Text(TextStage.BEGUN, self._index, self._item, refused=refused)

    def delta(self, text: str) -> Iterator[Event]:
        """More text."""
        self._text.append(text)
        yield Text(TextStage.DELTA, self._index, self._item, text, refused=self._refused)

    def end(self, citations: tuple[Citation, ...], whole: bool) -> Iterator[Event]:
        """The answer is whole, or was cut off."""
        index, item, text, refused = self._index, self._item, "".join(self._text), self._refused
        for place, citation in enumerate(citations):
            yield Cited(index, item, place, citation)
        yield Text(TextStage.DONE, index, item, text, refused=refused)
        yield Text(TextStage.WHOLE, index, item, text, citations, refused)
        status = ItemStatus.COMPLETED if whole else ItemStatus.INCOMPLETE
        yield self._done(index, Item(item, Turn(Speaker.ASSISTANT, (text,), citations, refused), status))
        self._saying = self._refused = False
        self._text.clear()

    def part(self, part: TextDelta) -> Iterator[Event]:
        """Text or calls of functions as they come: each an item of its own, begun with the first of it."""
        if part.text:
            yield from self._called()
            yield from () if self._saying else self.answer()
            yield from self.delta(part.text)
        for more in part.calls:
            if more.id:
                yield from self.so_far()
                self._call = ToolCall(more.id, more.name, "")
                yield ItemBegun(self._index, Item(self._call_item, self._call, ItemStatus.IN_PROGRESS))
            if self._call is not None and more.arguments:
                self._call = replace(self._call, arguments=self._call.arguments + more.arguments)
                yield Arguments(self._index, self._call_item, more.arguments)

    def so_far(self, whole: bool = True) -> Iterator[Event]:
        """The item that is open ends: whole, or cut off."""
        yield from self._called(whole)
        if self._saying:
            yield from self.end((), whole)

    def _called(self, whole: bool = True) -> Iterator[Event]:
        if self._call is not None:
            index, item, call = self._index, self._call_item, self._call
            self._call = None
            yield Arguments(index, item, call.arguments, whole=True)
            yield self._done(index, Item(item, call, ItemStatus.COMPLETED if whole else ItemStatus.INCOMPLETE))

    def _done(self, index: int, item: Item) -> Event:
        self.response = replace(self.response, output=(*self.response.output, item))
        return ItemDone(index, item)

    @property
    def begun(self) -> bool:
        """Whether an item is open."""
        return self._saying or self._call is not None

    @property
    def _index(self) -> int:
        return len(self.response.output)

    @property
    def _item(self) -> str:
        return f"msg_{self.identity}{self._number}"

    @property
    def _call_item(self) -> str:
        return f"fc_{self.identity}{self._number}"

    @property
    def _number(self) -> str:
        """What tells one item of several from the others of its kind."""
        alike = sum(not isinstance(item.content, Search) for item in self.response.output)
        return f"_{alike}" if alike else ""
