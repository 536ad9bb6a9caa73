"""``engine_deaths``: the corpus through registry and generator, and past the registry into verification and an engine.

Each adapter is refused with a reason or served right: attested as itself, as far from what transformers and PEFT
compute in fp32 as rounding explains, and the base answers after it as it did before.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2

from services.chassis.errors import Failure
from services.chassis.models import DEFAULT_BASE, ResolvedModel, resolve
from services.chassis.status import from_rpc_error
from services.generator.conversation import Turn
from services.generator.engine import EngineAdapter, EngineLost, EngineRefused, Job, Sampling
from services.generator.engine_vllm import VllmEngine
from services.generator.plugin.identity import IDENTITY_FILE, Identity
from services.generator.tokenizer import BaseTokenizer
from services.generator.verification import BaseRules, base_rules, verify
from tests.generating import QUESTIONS, Answer, Caller, Served, Tenant, tenant_of
from tests.load.generator.child import settings
from tests.load.generator.corpus.classes import Specimen, corpus
from tests.load.generator.corpus.make import CONFIG, WEIGHTS
from tests.load.generator.shapes import FOUR
from tests.load.generator.storm.checks import ANSWER_NATS, distance
from tests.load.generator.storm.reference import Reference
from tests.load.generator.storm.traffic import Ask, Response

_MAX_RANK = 16
_TOGETHER = 3
_TOKENS = 6
# Numbers so large that every further rounding shows: what is right there is the attestation alone.
CHAOTIC = frozenset({
    "the largest numbers", "numbers whose products overflow", "numbers that drown the base",
    "the largest half precision", "an alpha that drowns the base",
})  # fmt: skip
SERVED = "served"


@dataclass
class Outcomes:
    """What became of the corpus on one way; ``outcomes`` by class: who refused, or that it was served."""

    way: str
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    deaths: int = 0
    unreasoned: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    rescored: int = 0

    @property
    def adapters(self) -> int:
        """How many were tried."""
        return sum(sum(counted.values()) for counted in self.outcomes.values())


def through_the_registry(specimens: Sequence[Specimen]) -> Outcomes:
    """Publish each; ask the generator for what the registry accepts."""
    found = Outcomes("through registry and generator")
    with tempfile.TemporaryDirectory(prefix="corpus-") as name:
        served = Served(Path(name) / "served")
        try:
            served.start()
            tenant = tenant_of(served)
            before = _base_answers(tenant.generator)
            with ThreadPoolExecutor(_TOGETHER) as pool:
                published = list(pool.map(lambda each: _published(tenant, served.base, each), specimens))
            for specimen, (version, outcome) in zip(specimens, published, strict=True):
                told = outcome or _asked(tenant.generator, version, specimen, found)
                found.outcomes[specimen.kind][told] += 1
                if not told.partition(" ")[2] and told != SERVED:
                    found.unreasoned.append(f"{specimen.kind} {specimen.number}: {told}")
                if not outcome and not _same(before, _base_answers(tenant.generator)):
                    found.wrong.append(f"after {specimen.kind} {specimen.number} the base answers otherwise")
            engines = tenant.generator.api.ListEngines(generator_pb2.ListEnginesRequest()).engines
            found.deaths = sum(engine.restarts for engine in engines)
        finally:
            served.close()
    return found


def _published(tenant: Tenant, base: ResolvedModel, specimen: Specimen) -> tuple[str, str]:
    """The version, or who refused it and why."""
    try:
        return str(tenant.registry.publish("corpus", specimen.files, base_digest=base.digest).version), ""
    except grpc.RpcError as error:
        return "", f"registry {from_rpc_error(error).reason}"


def _asked(generator: Caller, version: str, specimen: Specimen, found: Outcomes) -> str:
    """Ask greedily, with chance, under a schema, and for several answers."""
    schema = chat_pb2.StructuredOutput(json_schema='{"type": "object", "properties": {"a": {"type": "integer"}}}')
    ways: tuple[dict[str, object], ...] = (
        {"sampling": {"logprobs": 2}},
        {"sampling": {"temperature": 1.0, "seed": 1, "n": 2}},
        {"structured_output": schema, "sampling": {"temperature": 1.0, "seed": 2}},
    )
    try:
        for way in ways:
            answer = generator.answer(QUESTIONS[0], version, max_tokens=_TOKENS, **way)
            if answer.receipt.version_digest != version:
                found.wrong.append(f"{specimen.kind} {specimen.number}: named {answer.receipt.version_digest}")
        generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    except grpc.RpcError as error:
        return f"generator {from_rpc_error(error).reason}"
    return SERVED


def _base_answers(generator: Caller) -> list[Answer]:
    return [generator.answer(question, max_tokens=_TOKENS, sampling={"logprobs": 1}) for question in QUESTIONS[:2]]


def _same(before: Sequence[Answer], after: Sequence[Answer]) -> bool:
    return [answer.token_ids for answer in before] == [answer.token_ids for answer in after]


def past_the_registry(specimens: Sequence[Specimen]) -> Outcomes:
    """Verify each as the generator does; load what it lets through into an engine, with what it wrote for the engine."""
    base = resolve(DEFAULT_BASE)
    rules = base_rules(base.path, _MAX_RANK)
    with tempfile.TemporaryDirectory(prefix="corpus-") as name:
        return asyncio.run(_past_the_registry(specimens, base, rules, Path(name)))


async def judged(
    specimens: Sequence[Specimen], rules: BaseRules, folder: Path, found: Outcomes
) -> list[tuple[Specimen, Path]]:
    """Verify each in a folder of its own; those that passed, their folders as the engine gets them."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def judge(number: int, specimen: Specimen) -> tuple[Specimen, Path] | None:
        place = folder / str(number)
        place.mkdir()
        for name, content in specimen.files.items():
            # The generator asks the registry for these two and for nothing else.
            if name in (WEIGHTS, CONFIG):
                (place / name).write_bytes(content)
        if not {WEIGHTS, CONFIG} <= specimen.files.keys():
            found.outcomes[specimen.kind]["manifest lacks a file"] += 1
            return None
        try:
            async with gate:
                verdict = await verify(place, rules)
        except Failure as failure:
            found.outcomes[specimen.kind]["verification refused"] += 1
            if "within the limits" in failure.sentence:
                found.unreasoned.append(f"{specimen.kind} {specimen.number}: {failure.sentence}")
            return None
        (place / CONFIG).write_text(json.dumps(verdict.config))
        digest = f"sha256:{hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest()}"
        (place / IDENTITY_FILE).write_text(Identity(digest, digest, verdict.rank).text())
        return specimen, place

    passed = await asyncio.gather(*(judge(number, specimen) for number, specimen in enumerate(specimens)))
    return [each for each in passed if each is not None]


async def _past_the_registry(
    specimens: Sequence[Specimen], base: ResolvedModel, rules: BaseRules, folder: Path
) -> Outcomes:
    found = Outcomes("past the registry, into verification and an engine")
    passed = await judged(specimens, rules, folder, found)
    engine = VllmEngine(settings(FOUR, base))
    await engine.start()
    try:
        answers = await _through_the_engine(engine, base, passed, found)
    except EngineLost as lost:
        found.deaths += 1
        found.wrong.append(f"the engine died: {lost}")
        answers = {}
    finally:
        await engine.stop()
    _rescored(base, answers, found)
    return found


async def _through_the_engine(
    engine: VllmEngine, base: ResolvedModel, passed: Sequence[tuple[Specimen, Path]], found: Outcomes
) -> dict[Path, tuple[Specimen, Response]]:
    """Load, ask and unload each; the base is asked before all and after each."""
    prompt = tuple(BaseTokenizer(base.path).chat([Turn("user", QUESTIONS[0])]))
    numbers = itertools.count(1)
    before = await _generated(engine, prompt, None, next(numbers))
    answers = {}
    for specimen, place in passed:
        identity = Identity.read(place)
        adapter = EngineAdapter(next(numbers), f"corpus@{identity.version}", place.absolute())
        try:
            await engine.load(adapter)
        except EngineRefused:
            found.outcomes[specimen.kind]["engine refused"] += 1
            continue
        answer = await _generated(engine, prompt, adapter, next(numbers))
        await engine.unload(adapter)
        found.outcomes[specimen.kind][SERVED] += 1
        answers[place] = (specimen, answer)
        if answer.named != identity.version:
            found.wrong.append(f"{specimen.kind} {specimen.number}: attested as {answer.named}")
        if (await _generated(engine, prompt, None, next(numbers))).tokens != before.tokens:
            found.wrong.append(f"after {specimen.kind} {specimen.number} the base answers otherwise")
    return answers


async def _generated(
    engine: VllmEngine, prompt: tuple[int, ...], adapter: EngineAdapter | None, number: int
) -> Response:
    sampling = Sampling(max_tokens=_TOKENS, logprobs=1, ignore_eos=True)
    tokens: list[int] = []
    logprobs: list[float] = []
    named = ""
    async for piece in engine.generate(Job(f"corpus-{number}", prompt, sampling, None, adapter, cache_salt="")):
        tokens += piece.token_ids
        logprobs += [told.logprob for told in piece.logprobs]
        named = piece.attestation.version if piece.attestation and not piece.attestation.violation else "violated"
    ask = Ask(0, "", prompt[:-1], prompt[-1:], 0.0, 0, _TOKENS)
    return Response(ask, 0.0, 0.0, tuple(tokens), tuple(logprobs), named)


def _rescored(base: ResolvedModel, answers: Mapping[Path, tuple[Specimen, Response]], found: Outcomes) -> None:
    """Hold what was served to the reference, under the configuration that the engine was given."""
    # One of a class: each costs the reference a second.
    firsts = {each[0].kind: place for place, each in reversed(list(answers.items())) if each[0].kind not in CHAOTIC}
    sane = {place: answers[place] for place in firsts.values()}
    if not sane:
        return
    reference = Reference(base.path, {str(place.name): place for place in sane})
    for place, (specimen, answer) in sane.items():
        (scores,) = reference.logprobs(place.name, [answer])
        found.rescored += 1
        nats = distance(answer.logprobs, scores)
        if not math.isfinite(nats) or nats > ANSWER_NATS:
            found.wrong.append(f"{specimen.kind} {specimen.number}: {nats:.2f} nats a token from its reference")


def told(found: Outcomes) -> str:
    """For people: a line a class, then what was wrong."""
    lines = [f"corpus {found.way}:"]
    for kind, counted in found.outcomes.items():
        lines.append(f"  {sum(counted.values()):3} {kind:46} " + ", ".join(f"{who} {n}" for who, n in counted.items()))
    totals = sum(found.outcomes.values(), Counter())
    lines.append(f"  {found.adapters} adapters in {len(found.outcomes)} classes: {dict(totals)}")
    lines.append(
        f"  engine deaths {found.deaths}; refused without a reason of their own {len(found.unreasoned)}; served "
        f"{totals[SERVED]}, rescored {found.rescored}; wrong {len(found.wrong)}"
    )
    return "\n".join(lines + [f"    {text}" for text in found.unreasoned[:10] + found.wrong[:10]])


def whole_corpus(variants: int | None = None) -> list[Specimen]:
    """The corpus over the default base."""
    shapes = base_rules(resolve(DEFAULT_BASE).path, _MAX_RANK).widths
    return list(corpus(shapes) if variants is None else corpus(shapes, variants))


if __name__ == "__main__":
    import sys

    every = whole_corpus(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    print(told({"registry": through_the_registry, "engine": past_the_registry}[sys.argv[1]](every)))
