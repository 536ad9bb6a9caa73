"""Sentences that are promises: something outside of this repository reads their words.  No other test asserts one."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.fine_tuning import events
from gateway.fine_tuning.training import Event, EventKind, State
from services.chassis import sources_prompt


@dataclass(frozen=True, slots=True)
class Promise:
    """A sentence, who reads it, and how it comes about."""

    reader: str
    told: Callable[[], str]
    sentence: str


def event(kind: EventKind, loss: float = 0.0) -> str:
    """Return the message of an event of a fine-tuning job, two steps into four."""
    return events.told("job-1", Event(1, kind, State.RUNNING, 1.0, 2, 4, loss)).message


_OPENAI = "clients of OpenAI's API: an event of a job is worded as OpenAI words its own"

PROMISES = (
    Promise(_OPENAI, lambda: event(EventKind.STEP, loss=2.0), "Step 2/4: training loss=2.0000"),
    Promise(_OPENAI, lambda: event(EventKind.CHECKPOINT), "Checkpoint created at step 2"),
    Promise("adapters are trained to say this, README.md", lambda: sources_prompt.NOT_FOUND, "not in the sources"),
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.sentence)
def test_a_promised_sentence_keeps_its_words(promise: Promise) -> None:
    assert promise.told() == promise.sentence
