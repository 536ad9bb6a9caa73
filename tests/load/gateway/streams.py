"""One stream of a chat completion at a time, read as it comes: when the first token came, and the gaps between tokens.

Alternating between doors, so that whatever else the machine does befalls both.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import httpx

from tests.load.gateway.loading import Door

_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """Milliseconds from the request to the first text, and from each text to the next."""

    first_ms: float
    gaps_ms: tuple[float, ...]


def alternating(doors: Sequence[Door], *, rounds: int, tokens: int, first: int = 0) -> dict[str, list[Streamed]]:
    """``rounds`` streams through every door in turn, with prompts that no door has seen before, numbered from ``first``."""
    found: dict[str, list[Streamed]] = {door.name: [] for door in doors}
    with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
        for number in range(first, first + rounds + 1):
            for door in doors:
                streamed = _streamed(client, door, number, tokens)
                # The first one through a door opens its connection.
                if number > first:
                    found[door.name].append(streamed)
    return found


def _streamed(client: httpx.Client, door: Door, number: int, tokens: int) -> Streamed:
    body = {
        "model": door.model,
        "messages": [{"role": "user", "content": f"{number}: what does the harbour bell tell the boats?"}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"authorization": f"Bearer {door.key}"}
    began = time.perf_counter()
    with client.stream("POST", f"{door.url}/v1/chat/completions", json=body, headers=headers) as answer:
        answer.raise_for_status()
        arrivals = [(time.perf_counter() - began) * 1000 for line in answer.iter_lines() if _has_text(line)]
    return Streamed(arrivals[0], tuple(after - before for before, after in pairwise(arrivals)))


def _has_text(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))
