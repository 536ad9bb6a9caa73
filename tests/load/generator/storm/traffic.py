"""The storm itself: requests of every kind at once, adapters loaded, swapped and removed meanwhile.

Prompts are token ids, so that what was asked is known to the token: one of a few beginnings, long enough for the prefix
cache, then a question of its own.  Most answers are sampled at temperature 1, some greedily; some are asked for
several answers at once; some requests are given up in the middle.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from services.chassis.status import from_rpc_error
from services.generator.tokenizer import BaseTokenizer
from tests.generating import QUESTIONS, Tenant
from tests.load.generator.storm.cast import MODEL, Cast

TOGETHER = 24
BEGINNINGS = (
    "is a book about the harbour. Boats come in the morning and leave at night; fish is sold at noon, and the bell is "
    "rung three times when fog lies on the water. ",
    "is a letter to a friend. I have moved into the house behind the mill, where the water turns the wheel all day, "
    "and I write at a small table. ",
    "is a list of rules for the library. Nobody speaks above a whisper, every book goes back to the shelf from which "
    "it was taken. ",
)
_SWAP_SECONDS = 1.0
_ALIAS_SECONDS = 3.0
_TOKENS = (4, 20)
# Few, so that the reference reads each prompt once for many answers.
_QUESTIONS = 2
# Blocks of the cache hold 128 tokens on a CPU.  A beginning fills one, which others then find cached; with its question
# it ends just before the second is full, so answers take a third while they grow, and preempt one another for it.
_BEGINNING_TOKENS, _PROMPT_TOKENS = 200, 2 * 128 - 6
_ABORTED, _GREEDY, _SEVERAL = 0.08, 0.15, 0.1
_MOST_ANSWERS = 4
_SHARE_OF_BASE = 0.2


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, for one answer or several: ``version`` is empty for the base.

    With ``leaves_after`` it is given up after so many tokens.
    """

    tenant: int
    version: str
    beginning: tuple[int, ...]
    question: tuple[int, ...]
    temperature: float
    seed: int
    max_tokens: int
    leaves_after: int = 0
    answers: int = 1

    @property
    def prompt(self) -> tuple[int, ...]:
        """All of its token ids."""
        return self.beginning + self.question


@dataclass(frozen=True, slots=True)
class Response:
    """What came of it, whole or not: ``failure`` is the reason of the catalogue when it was refused or broke off."""

    ask: Ask
    begun: float
    ended: float
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    named: str = ""
    slot: int = -1
    cached_tokens: int = 0
    failure: str = ""
    left: bool = False


@dataclass
class Outcome:
    """Everything that a storm gave, and what its swaps were."""

    responses: list[Response] = field(default_factory=list)
    swaps: int = 0
    moves: int = 0
    swap_failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Traffic:
    """Draws requests; the same seed and title give the same ones."""

    def __init__(self, cast: Cast, title: str, seed: int) -> None:
        self._cast = cast
        self._draw = random.Random(seed)
        tokenizer = BaseTokenizer(cast.served.base.path)
        # The title draws what comes first: no storm meets another's cached prompts.
        begun = [tokenizer.text(text) for text in BEGINNINGS]
        self.beginnings = [_filled(tokens, _BEGINNING_TOKENS, title) for tokens in begun]
        asked = [tokenizer.text(f"Question: {text} Answer:") for text in QUESTIONS[:_QUESTIONS]]
        self._questions = [_filled(tokens, _PROMPT_TOKENS - _BEGINNING_TOKENS, "questions") for tokens in asked]

    def asks(self, count: int) -> Iterator[Ask]:
        """Requests for ``count`` answers or a few more, beside those that are given up."""
        drawn = 0
        while drawn < count:
            ask = self._ask()
            drawn += 0 if ask.leaves_after else ask.answers
            yield ask

    def plain(self, tenant: int, version: str, beginning: int) -> Ask:
        """A greedy request of two tokens."""
        return Ask(tenant, version, self.beginnings[beginning], self._questions[0], 0.0, 0, 2)

    def _ask(self) -> Ask:
        draw = self._draw
        tenant = draw.randrange(len(self._cast.tenants))
        base = draw.random() < _SHARE_OF_BASE
        greedy = draw.random() < _GREEDY
        return Ask(
            tenant=tenant,
            version="" if base else draw.choice(self._cast.of(tenant)).digest,
            beginning=draw.choice(self.beginnings),
            question=draw.choice(self._questions),
            temperature=0.0 if greedy else 1.0,
            seed=draw.getrandbits(30),
            max_tokens=draw.randint(*_TOKENS),
            leaves_after=draw.randint(1, 6) if draw.random() < _ABORTED else 0,
            answers=draw.randint(2, _MOST_ANSWERS) if not greedy and draw.random() < _SEVERAL else 1,
        )


def _filled(tokens: Sequence[int], count: int, seed: str) -> tuple[int, ...]:
    """So many tokens: noise, then the text.

    A text that repeats itself would not do: every version goes on with it in the same words.
    """
    assert len(tokens) <= count, "the text is longer than the prompt"
    draw = random.Random(f"{seed} {tuple(tokens)}")
    return (*(draw.choice(tokens) for _ in range(count - len(tokens))), *tokens)


def run(cast: Cast, title: str, count: int, seed: int, *, told: Callable[[int], None] = lambda _: None) -> Outcome:
    """Let ``count`` requests be answered while adapters are swapped; ``told`` hears of every answer."""
    traffic, outcome = Traffic(cast, title, seed), Outcome()
    begun = time.monotonic()
    for asks in _prologue(cast, traffic):
        outcome.responses += [response for ask in asks for response in _answered(cast.tenants, ask)]
    over = threading.Event()
    swapping = [threading.Thread(target=work, args=(cast, over, outcome)) for work in (_swap, _move)]
    for thread in swapping:
        thread.start()
    try:
        with ThreadPoolExecutor(TOGETHER) as pool:
            for answers in pool.map(lambda ask: _answered(cast.tenants, ask), list(traffic.asks(count))):
                outcome.responses += answers
                told(len(outcome.responses))
    finally:
        over.set()
        for thread in swapping:
            thread.join()
    outcome.seconds = time.monotonic() - begun
    return outcome


def _prologue(cast: Cast, traffic: Traffic) -> Iterator[list[Ask]]:
    """One after the other: the same prompt from the base for each tenant, and for two versions of each.

    Whatever of it the second finds cached belongs to somebody else.
    """
    for tenant in range(len(cast.tenants)):
        yield [traffic.plain(tenant, "", 0)]
        yield [traffic.plain(tenant, version.digest, 0) for version in cast.of(tenant)[:2]]


def _answered(tenants: Sequence[Tenant], ask: Ask) -> list[Response]:
    """Ask, and read to the end or to where it is given up; a response for each answer, one for a failure."""
    begun = time.monotonic()
    tokens: dict[int, list[int]] = defaultdict(list)
    logprobs: dict[int, list[float]] = defaultdict(list)
    final = generator_pb2.Final()
    try:
        call = tenants[ask.tenant].generator.api.Generate(_request(ask))
        for response in call:
            if response.WhichOneof("part") == "final":
                final = response.final
            tokens[response.delta.choice] += response.delta.token_ids
            logprobs[response.delta.choice] += [told.logprob for told in response.delta.logprobs]
            if ask.leaves_after and sum(map(len, tokens.values())) >= ask.leaves_after:
                call.cancel()
                return [Response(ask, begun, time.monotonic(), left=True)]
    except grpc.RpcError as error:
        return [Response(ask, begun, time.monotonic(), failure=from_rpc_error(error).reason or error.code().name)]
    receipt = final.receipt
    return [
        Response(
            ask,
            begun,
            time.monotonic(),
            tuple(tokens[choice]),
            tuple(logprobs[choice]),
            receipt.version_digest,
            receipt.engine_slot,
            final.usage.cached_prompt_tokens,
        )
        for choice in range(ask.answers)
    ]


def _request(ask: Ask) -> generator_pb2.GenerateRequest:
    sampling = chat_pb2.Sampling(
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        seed=ask.seed,
        logprobs=1,
        ignore_eos=True,
        n=ask.answers,
    )
    prompt = generator_pb2.TokenIds(ids=ask.prompt)
    return generator_pb2.GenerateRequest(token_ids=prompt, version=ask.version, sampling=sampling)


def _swap(cast: Cast, over: threading.Event, outcome: Outcome) -> None:
    """Once a second load a version and remove another; whoever waits for it meanwhile loads it again."""
    order = list(cast.versions)
    for number in itertools.count():
        arriving, leaving = order[number % len(order)], order[(number + len(order) // 2) % len(order)]
        for version, rpc, request in (
            (arriving, "LoadAdapter", generator_pb2.LoadAdapterRequest(version=arriving.digest)),
            (leaving, "UnloadAdapter", generator_pb2.UnloadAdapterRequest(version=leaving.digest)),
        ):
            try:
                getattr(cast.tenants[version.tenant].generator.api, rpc)(request)
                outcome.swaps += 1
            except grpc.RpcError as error:
                reason = from_rpc_error(error).reason
                # It had left by itself to make room.
                if reason != "ADAPTER_NOT_RESIDENT":
                    outcome.swap_failures.append(f"{rpc} {reason}")
        if over.wait(_SWAP_SECONDS):
            return


def _move(cast: Cast, over: threading.Event, outcome: Outcome) -> None:
    """Point each tenant's alias at another version of its own every few seconds."""
    for number in itertools.count():
        if over.wait(_ALIAS_SECONDS):
            return
        place = number % len(cast.tenants)
        version = cast.of(place)[number // len(cast.tenants) % 2]
        try:
            cast.tenants[place].registry.point(MODEL, version.digest)
            outcome.moves += 1
        except grpc.RpcError as error:
            outcome.swap_failures.append(f"SetAlias {from_rpc_error(error).reason}")
