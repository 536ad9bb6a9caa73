"""The limits and the price of a model hold whatever it answers, by whichever name it was reached, through the real doors."""

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from trivium.common.v1 import chat_pb2
from trivium.embedder.v1 import embedder_pb2
from trivium.gateway.v1 import embeddings_pb2, gateway_pb2, replays_pb2, responses_pb2

from gateway import wire
from gateway.answering import Answerer
from gateway.auto.choosing import Choice
from gateway.chat import Chatter
from gateway.embeddings import wire as embeddings_wire
from gateway.embeddings.embedding import Element, EmbeddingModel, Embeddings, Vectors
from gateway.embeddings.servicer import EmbeddingServicer
from gateway.generation import FinishReason, Generated, Message, Opening, Receipt, Speaker, TextDelta, Usage
from gateway.limits.gate import answered_by, used
from gateway.limits.terms import Demand, Limit, Price, Terms, Unit
from gateway.peers.messages import to_messages
from gateway.replaying import wire as replaying_wire
from gateway.replaying.servicer import ReplayServicer
from gateway.responses import wire as responses_wire
from gateway.routing import ModelKind, Route, Router
from gateway.servicer import GatewayServicer
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import asking as question
from tests.unit.gateway.asking.stock import world
from tests.unit.gateway.replaying import known_weights
from tests.unit.gateway.replaying.known_weights import Peers, receipt, replaying
from tests.unit.gateway.test_limits import Access, asking, gate_over, tell
from tests.unit.gateway.tracing import untraced

VERSION, BROKEN = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAMES = ["desk", " desk", "desk ", "\tdesk@prod", "desk@3", f" desk@{VERSION}"]
DEFAULT = "the-default"
UNUSED: Any = None


@pytest.mark.parametrize(("name", "model"), [*((name, "desk") for name in NAMES), ("", "base"), (" ", "base")])
def test_every_door_takes_a_name_for_the_model_that_it_is_of(name, model):
    chat = gateway_pb2.ChatRequest(model=name)
    settings = responses_pb2.ResponseSettings(model=name)
    demands = [
        wire.demand(chat),
        wire.demand(gateway_pb2.AskRequest(model=name)),
        wire.demand(gateway_pb2.CompleteRequest(model=name)),
        responses_wire.demand(responses_pb2.CreateResponseRequest(settings=settings)),
        replaying_wire.demand(Receipt("r1", requested_model=name)),
    ]
    if name:
        embed = embedder_pb2.EmbedRequest(model=name, texts=["x"])
        demands.append(embeddings_wire.demand(embeddings_pb2.CreateEmbeddingsRequest(request=embed)))
    assert {demand.model for demand in demands} == {model}


class Names:
    """Models desk and broken, of which one falls back on the other, and a base of two names."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        if name.startswith("base:"):
            return Route(name, name, ModelKind.BASE, base=name.removeprefix("base:"))
        model = name.partition("@")[0]
        version = {"desk": VERSION, "broken": BROKEN}[model]
        return Route(
            name, f"{model}@{version}", ModelKind.ADAPTER, version, fallback="desk" if model == "broken" else ""
        )


class Chooser:
    async def choose(self, text: str) -> Choice:
        return Choice("desk", "the only one")


class Engine:
    """Answers with ten tokens for ten; what it cannot serve it refuses, and it knows its default base by its name."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.texts = 0

    async def generate(self, request: Any):
        self.versions.append(request.version)
        resolved = "base" if request.base in ("", DEFAULT) else f"base:{request.base}"
        receipt = Receipt(
            request.request_id, version_digest=request.version, resolved_model=resolved, usage=Usage(10, 0)
        )
        if request.version == BROKEN:
            raise Failure(Reason.WEIGHTS_REFUSED, field="version", problem="a tensor is missing")
        yield Opening(receipt)
        self.texts += 1
        yield TextDelta("word", tokens=10)
        yield Generated(FinishReason.STOP, Usage(10, 10), (), replace(receipt, usage=Usage(10, 10)))


class Records:
    """Counts what is recorded, as the recorder does."""

    def __init__(self) -> None:
        self.kept: list[Receipt] = []

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.record_cancelled(tenant, principal, method, receipt, project)

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        used(receipt)
        self.kept.append(receipt)


class Door:
    """The servicers over one gate."""

    def __init__(self, gate: Any) -> None:
        self.gate, self.engine, self.records = gate, Engine(), Records()
        generator: Any = self.engine
        recorder: Any = self.records
        router = Router(Names(), generator, Chooser())  # type: ignore[arg-type]  # chooses, and nothing else is asked
        answerer = Answerer(generator, recorder, router)
        chatter = Chatter(router, answerer, lambda: 0.0, lambda: "drawn", untraced)
        self.chat = GatewayServicer(UNUSED, chatter, router, UNUSED, UNUSED, gate).Chat
        embeddings = Embeddings(Encoders(), recorder, lambda: 1.0, lambda: "drawn")
        self.embed = EmbeddingServicer(embeddings, gate).CreateEmbeddings

    async def send_initial_metadata(self, headers: Any) -> None:
        await tell(headers)

    async def asked(self, model: str) -> Reason | None:
        turns = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="x" * 24)]
        request = gateway_pb2.ChatRequest(model=model, messages=turns, sampling=chat_pb2.Sampling(max_tokens=10))
        context: Any = self
        try:
            with serving(asking()):
                async for _ in self.chat(request, context):
                    pass
        except Failure as failure:
            return failure.reason
        return None

    async def embedded(self, model: str) -> Reason | None:
        request = embeddings_pb2.CreateEmbeddingsRequest(request=embedder_pb2.EmbedRequest(model=model, texts=["x"]))
        context: Any = self
        try:
            with serving(asking()):
                await self.embed(request, context)
        except Failure as failure:
            return failure.reason
        return None


class Encoders:
    """One encoder, the default, of one name and one digest."""

    async def embed(self, wanted: Any) -> Vectors:
        return Vectors(bytes(4), Element.FLOAT32, (1, 1), (), (3,), (False,), "lm", VERSION)

    async def models(self) -> list[EmbeddingModel]:
        return [EmbeddingModel("lm", VERSION, 1, 1, "", False, True, "", "")]


@asynccontextmanager
async def door(*limits: Limit, prices: tuple[Price, ...] = ()):
    async with gate_over(Access(Terms(limits, prices))) as gate:
        yield Door(gate)


@pytest.mark.parametrize("name", [*NAMES, "auto", "broken", " broken@prod"])
async def test_what_leads_to_a_model_is_held_by_its_limit_before_it_generates(name):
    async with door(Limit("model:desk", Unit.REQUESTS, 1)) as ours:
        assert await ours.asked(name) is None
        assert await ours.asked(name) is Reason.RATE_LIMIT_EXCEEDED
        assert await ours.asked("desk") is Reason.RATE_LIMIT_EXCEEDED
        assert ours.engine.versions.count(VERSION) == 1
        assert await ours.asked("base") is None


async def test_a_limit_of_a_name_holds_also_where_another_model_answers():
    async with door(Limit("model:auto", Unit.REQUESTS, 1)) as ours:
        assert await ours.asked("auto") is None
        assert await ours.asked("auto") is Reason.RATE_LIMIT_EXCEEDED
        assert await ours.asked("desk") is None


async def test_the_default_base_is_one_model_under_all_its_names():
    async with door(Limit("model:base", Unit.REQUESTS, 1)) as ours:
        assert await ours.asked(f"base:{DEFAULT}") is None
        for name in (f"base:{DEFAULT}", "base", ""):
            assert await ours.asked(name) is Reason.RATE_LIMIT_EXCEEDED
        assert ours.engine.texts == 1
        # That of the engine's word was read and ended; what reading cost is recorded.
        assert [receipt.resolved_model for receipt in ours.records.kept] == ["base", "base"]
        assert [receipt.usage.completion_tokens for receipt in ours.records.kept] == [10, 0]
        assert await ours.asked("base:other") is None


@pytest.mark.parametrize("brought", [None, gateway_pb2.ChatRequest(model="base")], ids=["found", "brought"])
async def test_a_replay_stands_under_the_limits_of_the_models_of_its_receipt(brought):
    # Chosen by its meaning then, and answered by desk.
    kept = receipt(requested_model="auto", resolved_model=f"desk@{known_weights.VERSION}")
    kept = replace(kept, version_digest=known_weights.VERSION)
    weights = known_weights.Weights()
    weights.version = known_weights.VERSION
    request = replays_pb2.ReplayAnswerRequest(request_id=kept.request_id, chat=brought)
    if brought is not None:
        request.chat.messages.extend(to_messages(known_weights.TURNS))
    models = ("base", "desk", "auto")
    limits = tuple(Limit(f"model:{model}", Unit.PLACES, 1) for model in models)
    told: dict[str, Any] = {}
    async with gate_over(Access(Terms(limits))) as gate:
        replays = ReplayServicer(replaying(weights, Peers(kept, weights)), gate)
        context: Any = Door(gate)
        with serving(asking()):
            for model in models:
                # An answer of the model is under way.
                async with gate.passing(Demand(model, 1, 1), tell):
                    try:
                        told[model] = (await replays.ReplayAnswer(request, context)).verdict
                    except Failure as failure:
                        told[model] = failure.reason
        meters = gate.accounts.of("ada").meters.values()
    exhausted = Reason.RATE_LIMIT_EXCEEDED
    assert told == {"base": replays_pb2.REPLAY_VERDICT_EXACT, "desk": exhausted, "auto": exhausted}
    assert {meter.reserved for meter in meters} == {0}


async def test_tokens_are_settled_with_the_limit_of_the_model_that_made_them():
    async with door(Limit("model:desk", Unit.TOKENS, 1000), Limit("model:base", Unit.TOKENS, 1000)) as ours:
        for name in ("desk", "auto", "broken", "base"):
            assert await ours.asked(name) is None
        account = ours.gate.accounts.of("ada")
        left = {scope: meter.held + meter.remaining for (scope, _), meter in account.meters.items()}
        assert {meter.reserved for meter in account.meters.values()} == {0}
        assert left == {"model:desk": 1000 - 60, "model:base": 1000 - 20}


async def test_of_a_request_that_several_models_have_a_part_in_each_is_settled_with_its_own():
    limits = (
        Limit("", Unit.TOKENS, 1000),
        Limit("model:desk", Unit.TOKENS, 1000),
        Limit("model:base", Unit.TOKENS, 1000),
    )
    async with gate_over(Access(Terms(limits))) as gate:
        with serving(asking()):
            async with gate.passing(Demand("desk", 10, 10), tell):
                for name, tokens in (("base", 3), ("desk", 40)):
                    await answered_by(name)
                    used(Receipt("r", requested_model=name, resolved_model=name, usage=Usage(tokens, 0)))
        meters = gate.accounts.of("ada").meters
    left = {scope: meter.held + meter.remaining for (scope, _), meter in meters.items()}
    assert left == {"": 1000 - 43, "model:desk": 1000 - 40, "model:base": 1000 - 3}


async def test_money_is_counted_by_the_price_of_the_model_that_answers():
    prices = (Price("desk", 1_000_000, 1_000_000), Price("", 0, 0))
    async with door(Limit("", Unit.MONTH_MICROS, 40), prices=prices) as ours:
        assert [await ours.asked("auto") for _ in range(3)] == [None, None, Reason.INSUFFICIENT_QUOTA]
        assert await ours.asked("broken") is Reason.INSUFFICIENT_QUOTA
        assert await ours.asked("base") is None
    assert Terms(prices=prices).cost(Demand("auto", 10, 10, "desk")) == 20


@pytest.mark.parametrize("first", ["", "lm", VERSION, "lm@prod"])
async def test_the_default_encoder_is_one_model_under_all_its_names(first):
    async with door(Limit("model:lm", Unit.REQUESTS, 1)) as ours:
        assert await ours.embedded(first) is None
        for name in ("", "lm", VERSION, " lm@prod"):
            assert await ours.embedded(name) is Reason.RATE_LIMIT_EXCEEDED


async def test_where_the_base_is_exhausted_another_model_answers_without_its_help(tmp_path):
    place = world(tmp_path, "Four crowns.")
    history = (Message(Speaker.USER, "How much is a day ticket?"), Message(Speaker.ASSISTANT, "Nine crowns."))
    asked = question("And for a child?", history=history)
    ends: list[Any] = []
    async with gate_over(Access(Terms((Limit("model:base", Unit.REQUESTS, 1),)))) as gate:
        for _ in range(2):
            with serving(asking()):
                async with gate.passing(Demand("desk", 10, 10), tell):
                    ends.append([event async for event in place.asker.ask(asked)][-1])
    assert [[told.stage for told in end.fallbacks] for end in ends] == [[], ["rewrite"]]


async def test_a_question_whose_model_is_exhausted_is_refused_before_anything_is_told(tmp_path):
    place = world(tmp_path, "Four crowns.")
    async with gate_over(Access(Terms((Limit("model:desk", Unit.REQUESTS, 1),)))) as gate:
        told: list[Any] = []

        async def ask() -> None:
            # As by a name that means desk.
            async with gate.passing(Demand("auto", 10, 10), tell):
                async for event in place.asker.ask(question()):
                    told.append(event)  # noqa: PERF401  # a comprehension would lose what came before the failure

        with serving(asking()):
            await ask()
            before = len(told)
            with pytest.raises(Failure) as refused:
                await ask()
    assert refused.value.reason is Reason.RATE_LIMIT_EXCEEDED
    assert len(told) == before > 1
    assert len(place.generator.requests) == 1
