"""The part ``batch``: a live tenant alone, and beside a batch of another tenant's that never ends meanwhile.

The live tenant reads one stream after another; rounds alone and rounds beside the batch take turns, with prompts that were
never sent before.  Invariant: of every round beside the batch lines were answered while it was timed, and none failed.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import openai

from services.ops.supervisor import launch
from tests.load.gateway.loading import Door
from tests.load.gateway.parts import Figures, say
from tests.load.gateway.streams import Streamed, alternating
from tests.load.gateway.tenants import key_of
from tests.load.percentile import percentile
from tests.load.trainer.parts import spread
from tests.stack import eventually

_ROUNDS = 6
_STREAMS = 25
_TOKENS = 24
_LINES = 1_000
_LINE_TOKENS = 64
_SECONDS = 240.0
_UNENDED = ("validating", "in_progress", "finalizing", "cancelling")
_PERCENTILES = {"p50": 0.5, "p99": 0.99}


def figures(scale: float) -> Figures:
    """How much longer a live tenant waits for first tokens, and between tokens, beside a batch than alone."""
    rounds, streams = max(2, round(_ROUNDS * scale)), max(5, round(_STREAMS * scale))
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder)) as suite:
        door, key = Door("live", suite.http, key_of(suite, "live"), "base"), key_of(suite, "patient")
        with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=key, timeout=_SECONDS) as patient:
            file = patient.files.create(file=("requests.jsonl", _requests()), purpose="batch").id
            alone, beside, rates = list[Streamed](), list[Streamed](), list[float]()
            for number in range(rounds):
                alone += _streams(door, 2 * number, streams)
                with _running(patient, file) as answered:
                    before, began = answered(), time.perf_counter()
                    beside += _streams(door, 2 * number + 1, streams)
                    rates.append((answered() - before) / (time.perf_counter() - began))
                if not rates[-1]:
                    raise RuntimeError("no line of the batch was answered while the live tenant was timed beside it")
                say(
                    f"round {number + 1}: {rates[-1] * _LINE_TOKENS:.1f} tokens a second of the batch beside the live tenant"
                )
    return told(alone, beside) | {"batch_tokens_per_second": statistics.median(rates) * _LINE_TOKENS}


def _requests() -> bytes:
    lines = []
    for number in range(_LINES):
        turns = [{"role": "user", "content": f"{number}: which of the two lights does a boat see first?"}]
        body = {"model": "base", "messages": turns, "max_tokens": _LINE_TOKENS, "temperature": 0, "ignore_eos": True}
        lines.append({"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _streams(door: Door, turn: int, streams: int) -> list[Streamed]:
    # One more is sent, which opens the connection.
    return alternating((door,), rounds=streams, tokens=_TOKENS, first=turn * (streams + 1))[door.name]


@contextmanager
def _running(client: openai.OpenAI, file: str) -> Iterator["Answered"]:
    """A batch that is being answered while the block lasts; how many of its lines are."""
    batch = client.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h").id
    answered = Answered(client, batch)
    eventually(answered, "a line of the batch is answered", _SECONDS)
    try:
        yield answered
    finally:
        client.batches.cancel(batch)
        eventually(lambda: client.batches.retrieve(batch).status not in _UNENDED, "the batch has ended", _SECONDS)


class Answered:
    """How many lines of a batch are answered by now."""

    def __init__(self, client: openai.OpenAI, batch: str) -> None:
        self._client = client
        self._batch = batch

    def __call__(self) -> int:
        """As the batch says.  Raises RuntimeError where a line failed or the batch has ended: it is no load any more."""
        found = self._client.batches.retrieve(self._batch)
        counts = found.request_counts
        if found.status not in _UNENDED or counts is None or counts.failed:
            raise RuntimeError(f"the batch is {found.status}: {counts}, {found.errors}")
        return counts.completed


def told(alone: Sequence[Streamed], beside: Sequence[Streamed]) -> Figures:
    """The table for people, and its figures."""
    found: Figures = {}
    say(f"{'ms':<18} {'alone':>9} {'beside':>9} {'ratio':>7}")
    for what in ("ttft", "gap"):
        sides = [
            [it.first_ms for it in side] if what == "ttft" else [gap for it in side for gap in it.gaps_ms]
            for side in (alone, beside)
        ]
        for name, part in _PERCENTILES.items():
            ms = [percentile(side, part) for side in sides]
            found[f"batch_{what}_{name}_ratio"] = ms[1] / ms[0]
            found[f"batch_{what}_{name}_ms"] = {"alone": round(ms[0], 2), "beside": round(ms[1], 2)}
            say(f"{what + ' ' + name:<18} {ms[0]:>9.1f} {ms[1]:>9.1f} {ms[1] / ms[0]:>7.2f}")
    say(
        f"first tokens, ms: alone {spread([it.first_ms for it in alone])}, beside {spread([it.first_ms for it in beside])}"
    )
    return found
