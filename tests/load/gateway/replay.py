"""The part ``replay``: how far rounding alone moves an answer's tokens apart, which is what a replay has to allow for.

Answers of 16 tokens are computed alone over nothing cached, and then again: alone over a cached prompt, among eight others
over a cached prompt, and among eight others over nothing cached (for another tenant, whose cache is its own).  While the
tokens are the same, the distance between the token and each of its rivals is compared with what it was the first time;
where an answer leaves the first one, so is the token that it took.
"""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from gateway.replaying.judging import RIVALS, TOLERANCE_NATS
from services.chassis.models import DEFAULT_BASE, resolve
from services.ops.supervisor import Suite, launch
from tests.integration.gateway.stock import metadata, serve
from tests.load.gateway.parts import Figures, say
from tests.load.gateway.tenants import key_of
from tests.load.generator import adapters
from tests.load.generator.adapters import Recipe
from tests.load.percentile import percentile
from tests.public_sets import public_sets

_ANSWERS = 200
_TOKENS = 16
_AT_ONCE = 9
# Rivals farther away than this change places with nobody.
_NEAR_NATS = 1.0
_QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
_ADAPTER = "replayed"

Token = chat_pb2.TokenLogprob
Answer = tuple[Token, ...]


@dataclass(slots=True)
class Moved:
    """What changed between two computations: distances in nats of near rivals, and of the tokens that were taken instead."""

    shifts: list[float] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)
    unknown: int = 0
    tokens: int = 0

    def add(self, first: Answer, again: Answer) -> None:
        """Compare two answers to one prompt, up to where they part."""
        for one, other in zip(first, again, strict=False):
            self.tokens += 1
            if one.token_id != other.token_id:
                margin = _distance(one, other.token_id)
                self.unknown += margin is None
                self.flips += [] if margin is None else [margin]
                return
            for rival in one.top:
                now = _distance(other, rival.token_id)
                if rival.token_id != one.token_id and one.logprob - rival.logprob <= _NEAR_NATS and now is not None:
                    self.shifts.append(abs(now - (one.logprob - rival.logprob)))


def figures(scale: float) -> Figures:
    """Quantiles of what moved for the base and for an adapter, and the bound that replays are judged by."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder) / "suite") as suite:
        base = resolve(DEFAULT_BASE)
        written = adapters.write(base.path, Path(folder) / "adapter", Recipe(16, seed=1))
        served = serve(suite, _ADAPTER, adapters.files(written))
        prompts = _prompts(max(2 * _AT_ONCE, round(_ANSWERS * scale)))
        found: Figures = {"replay_tolerance_nats": TOLERANCE_NATS, "replay_answers": len(prompts)}
        for of, version in (("base", ""), ("adapter", served.version)):
            found[f"replay_{of}"] = uvloop.run(_measured(suite, prompts, of, version))
        return found


def _prompts(count: int) -> list[str]:
    """Questions, every second one behind its paragraph: short prompts and long ones."""
    data = json.loads((public_sets() / "qa-xquad-en" / "xquad.en.first32.json").read_text())["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    asked = [(paragraph["context"], qa["question"]) for paragraph in paragraphs for qa in paragraph["qas"]]
    step = len(asked) // count
    return [
        f"{context}\n{question}" if number % 2 else question
        for number, (context, question) in enumerate(asked[: step * count : step])
    ]


async def _measured(suite: Suite, prompts: Sequence[str], of: str, version: str) -> Figures:
    async with grpc.aio.insecure_channel(suite.addresses["generator"]) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        ours, others = suite.api_key, key_of(suite, of)

        async def answers(key: str, at_once: int) -> list[Answer]:
            gate = asyncio.Semaphore(at_once)
            return list(await asyncio.gather(*(_answer(stub, key, prompt, version, gate) for prompt in prompts)))

        first = await answers(ours, 1)
        again = {"again_alone": await answers(ours, 1), "in_company": await answers(ours, _AT_ONCE)}
        if not version:
            # Versions are a tenant's own.
            again["in_company_uncached"] = await answers(others, _AT_ONCE)
    return {how: _told(of, how, first, answers_) for how, answers_ in again.items()} | {
        "near_share": _near_share(first)
    }


def _told(of: str, how: str, first: Sequence[Answer], again: Sequence[Answer]) -> Figures:
    moved = Moved()
    for one, other in zip(first, again, strict=True):
        moved.add(one, other)
    say(f"{of}, {how}: {moved.tokens} tokens, {len(moved.flips)} answers part (and {moved.unknown} unknown)")
    found: Figures = {"tokens": moved.tokens, "parted": len(moved.flips) + moved.unknown, "unknown": moved.unknown}
    for name, values in (("shift", moved.shifts), ("margin", moved.flips)):
        quantiles = {f"p{100 * part:g}": round(percentile(values, part), 4) for part in _QUANTILES} if values else {}
        say(f"  {name} in nats: {quantiles}")
        found[f"{name}_nats"] = quantiles
    return found


def _near_share(answers: Sequence[Answer]) -> float:
    """Share of tokens of which a rival is so near that putting it in their place would count as rounding."""
    distances = [
        min(token.logprob - rival.logprob for rival in token.top if rival.token_id != token.token_id)
        for answer in answers
        for token in answer
    ]
    return sum(distance <= TOLERANCE_NATS for distance in distances) / len(distances)


def _distance(token: Token, rival: int) -> float | None:
    return next((token.logprob - other.logprob for other in token.top if other.token_id == rival), None)


async def _answer(
    stub: "generator_pb2_grpc.GeneratorServiceAsyncStub", key: str, prompt: str, version: str, gate: asyncio.Semaphore
) -> Answer:
    sampling = chat_pb2.Sampling(max_tokens=_TOKENS, temperature=0.0, logprobs=RIVALS)
    request = generator_pb2.GenerateRequest(version=version, sampling=sampling)
    request.conversation.messages.add(role=chat_pb2.CHAT_ROLE_USER, content=prompt)
    async with gate:
        call = stub.Generate(request, metadata=metadata(key), timeout=240)
        return tuple([token async for response in call for token in response.delta.logprobs])
