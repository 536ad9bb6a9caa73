"""Answers that are being heard, where the next process finds them when this one is killed.

Invariant: what stands here of an answer is what is to be recorded of it if nobody says more: until its end what was heard
so far, under an id of its own; from its end on its record, which access keeps once however often it is told.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from gateway.generation import Receipt
from gateway.receipts import Recorder, Waiting


class Place(Protocol):
    """One answer's."""

    @property
    def waiting(self) -> Waiting:
        """What is recorded of it, but for the tokens since."""

    def heard(self, completion_tokens: int) -> None:
        """So many in all until now."""

    def holds(self, receipt: Receipt) -> None:
        """From here on this is what is recorded of it, with its tokens: its own receipt when it has ended."""

    def leave(self) -> None:
        """Free the place: what was in it is recorded, or is not to be."""


class UnderWay(Protocol):
    """The places; they outlive a process that is killed, and not a machine that loses its power."""

    def opened(self) -> AbstractContextManager[Sequence[Place]]:
        """Inside the block answers may enter; it gives the places that an earlier process left."""

    def enter(self, waiting: Waiting) -> Place | None:
        """A place for an answer of which a first part is about to be heard; None where there is none for it."""


async def keep(under_way: UnderWay, recorder: Recorder) -> None:
    """Let answers enter for as long as the server lives, and record what an earlier process left."""
    with under_way.opened() as left:
        for place in left:
            recorder.enter(place.waiting).add_done_callback(partial(_leave, place))
        await asyncio.Event().wait()


def _leave(place: Place, _: object) -> None:
    place.leave()
