"""Full models on engines of their own, through registry, generator, retriever and gateway with real vLLM.

They are started on demand, attested by the folder that the worker read, asked with and without sources, independent in
death, and known to their tenant alone.
The full models are random Llamas of a few hundred kilobytes, so that an engine's start is all that takes time; the default
base's engine is the suite's.  The tests build on the first model's engine: an engine's start is dear.  `make test` starts
two here: for the first model, and for the first model again after its engine hung or for the second model.
"""

import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import grpc
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc, replays_pb2, replays_pb2_grpc
from trivium.generator.v1 import generator_pb2
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.adapters import Adapter
from tests.generating import ENGINE_SECONDS, Answer, SuiteGenerator, Tenant, alive, collect, tenant_of
from tests.library import Reader
from tests.stack import RECONNECTS, Api, eventually, refused
from tests.tiny_model import TinyModel

FULL = model_pb2.VERSION_KIND_FULL
READY, STOPPED = generator_pb2.ENGINE_STATE_READY, generator_pb2.ENGINE_STATE_STOPPED
SERVING, PENDING = model_pb2.ALIAS_STATE_SERVING, model_pb2.ALIAS_STATE_PENDING
PROMPT = "Once upon a time"
# Attention on the CPU wants heads of 32 numbers or more: four of them in 128.  A question with its sources is long in bytes.
FIRST, SECOND = (
    TinyModel(seed=seed, hidden=128, dtype="BF16", changes={"max_position_embeddings": 1024}) for seed in (1, 2)
)
FARES = "A ticket for the ferry costs nine crowns."
CITED = "Nine crowns [1]."


@dataclass(frozen=True)
class Pool:
    """The services, one tenant with two full models and an adapter on the first, and gateway and retriever in its hands."""

    served: SuiteGenerator
    tenant: Tenant
    gateway: Api
    replays: Api
    reader: Reader
    first: model_pb2.Version
    second: model_pb2.Version
    adapter: model_pb2.Version

    def engines(self, tenant=None):
        listed = (tenant or self.tenant).generator.api.ListEngines(generator_pb2.ListEnginesRequest())
        return {engine.version or "default": engine for engine in listed.engines}

    def state(self, version):
        return self.engines()[version].state

    def text(self, version="", base="", **sampling) -> Answer:
        return collect(self.tenant.generator.api.Generate(self.request(version, base, **sampling)))

    def request(self, version="", base="", **sampling):
        sampling = {"max_tokens": 4, "logprobs": 1, **sampling}
        return generator_pb2.GenerateRequest(
            text=PROMPT, version=version, base=base, sampling=chat_pb2.Sampling(**sampling)
        )

    def chat(self, model):
        """One conversation at the gateway, by name; the receipt."""
        message = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=PROMPT)
        request = gateway_pb2.ChatRequest(messages=[message], model=model, sampling=chat_pb2.Sampling(max_tokens=4))
        return next(part.final for part in self.gateway.Chat(request) if part.WhichOneof("part") == "final").receipt


@pytest.fixture(scope="module")
def pool(suite, served):
    tenant = tenant_of(served)
    key = served.stack.tenant_key(tenant.name)
    first = tenant.registry.publish("own", FIRST.files(), kind=FULL, base_digest="")
    second = tenant.registry.publish("other", SECOND.files(), kind=FULL, base_digest="")
    fitting = Adapter(rank=4, inputs=128, outputs=128, salt=0.5).files()
    adapter = tenant.registry.publish("desk", fitting, base_digest=first.base_digest)
    with (
        grpc.insecure_channel(suite.addresses["gateway"], RECONNECTS) as gateway,
        grpc.insecure_channel(suite.addresses["retriever"], RECONNECTS) as retriever,
    ):
        edge = Api(gateway_pb2_grpc.GatewayServiceStub(gateway), key, ENGINE_SECONDS)
        replays = Api(replays_pb2_grpc.ReplayServiceStub(gateway), key, ENGINE_SECONDS)
        reader = Reader(Api(retriever_pb2_grpc.RetrieverServiceStub(retriever), key), tenant.name)
        yield Pool(served, tenant, edge, replays, reader, first, second, adapter)
    # No later life of the generator starts an engine for them.
    for model in ("own", "other"):
        request = registry_pb2.DeleteAliasRequest(model=model, alias="prod")
        with suppress(grpc.RpcError):
            tenant.registry.api.DeleteAlias(request)


def reference(model, folder, tokens):
    """The plain model's log probability of each next token after the tokens, [vocabulary]."""
    plain = AutoModelForCausalLM.from_pretrained(model.write(folder), dtype=torch.float32)
    with torch.no_grad():
        return torch.log_softmax(plain(torch.tensor([tokens])).logits[0, -1], dim=-1)


def tokenized(pool, base=""):
    request = generator_pb2.TokenizeRequest(text=PROMPT, base=base)
    return list(pool.tenant.generator.api.Tokenize(request).token_ids)


def test_the_prompt_of_a_full_model_is_counted_by_its_own_tokenizer_and_no_engine_starts(pool):
    assert tokenized(pool, "own") == tokenized(pool, pool.first.base_digest)
    assert pool.state(pool.first.version) is STOPPED
    assert pool.engines()[pool.first.version].memory_bytes == 0


def test_an_alias_of_a_full_model_serves_once_its_engine_has_answered_and_is_asked_by_name(pool, tmp_path):
    pool.tenant.registry.point("own", pool.first.version)
    eventually(lambda: pool.tenant.registry.alias("own").state == SERVING, "the full model serves", 240)
    engine = pool.engines()[pool.first.version]
    assert (engine.state, engine.model, engine.base, engine.restarts) == (READY, "own", "own", 0)
    assert engine.memory_bytes > 100 << 20
    receipt = pool.chat("own")
    assert (receipt.version_digest, receipt.base_digest) == (pool.first.version, pool.first.base_digest)
    assert (receipt.engine, receipt.engine_slot) == (engine.engine, -1)
    assert receipt.resolved_model == f"own@{pool.first.version}"
    answer = pool.text(pool.first.version)
    expected = reference(FIRST, tmp_path / "first", tokenized(pool, "own"))
    assert answer.logprobs[0].logprob == pytest.approx(float(expected[answer.token_ids[0]]), abs=0.05)
    default = pool.text()
    assert default.receipt.base_digest == pool.served.base.digest
    assert default.token_ids != answer.token_ids


def test_a_full_model_answers_from_sources_that_it_cites_and_its_answer_is_computed_again(pool):
    pool.reader.create(pool.reader.collection)
    pool.reader.add("fares.txt", FARES)
    asked = gateway_pb2.AskRequest(
        model="own",
        question="What is the price of a ticket?",
        collections=[pool.reader.collection],
        abstention=retriever_pb2.ABSTENTION_POLICY_OFF,
        # Its weights are drawn: what it says is chosen for it.
        structured_output=chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=[CITED])),
        sampling=chat_pb2.Sampling(max_tokens=64, temperature=0),
    )
    *events, last = pool.gateway.Ask(asked)
    receipt, (citation,) = last.final.receipt, last.final.citations
    assert "".join(event.delta.text for event in events) == CITED
    assert CITED[citation.answer_start : citation.answer_end] == "[1]"
    span = citation.span
    assert pool.reader.text(span.document, span.version, span.start, span.end) == FARES
    assert (receipt.version_digest, receipt.base_digest) == (pool.first.version, pool.first.base_digest)
    assert receipt.engine == pool.engines()[pool.first.version].engine
    assert list(receipt.sources) == [span]
    replay = replays_pb2.ReplayAnswerRequest(request_id=receipt.request_id, ask=asked, answer=CITED)
    found = pool.replays.ReplayAnswer(replay)
    assert found.verdict == replays_pb2.REPLAY_VERDICT_EXACT, found.explanation
    (now,) = found.collections
    assert now.version == now.present_version == receipt.collections[0].version


def test_an_adapter_on_a_full_model_is_answered_by_that_models_engine(pool):
    answer = pool.text(pool.adapter.version)
    receipt = answer.receipt
    assert (receipt.version_digest, receipt.base_digest) == (pool.adapter.version, pool.first.base_digest)
    assert receipt.engine == pool.engines()[pool.first.version].engine
    assert receipt.engine_slot >= 0
    assert answer.logprobs[0].logprob != pytest.approx(pool.text(pool.first.version).logprobs[0].logprob, abs=1e-4)
    with refused("BASE_MISMATCH"):
        pool.text(pool.adapter.version, base=pool.served.base.name)
    with refused("BASE_NOT_FOUND"):
        pool.text(base="nowhere")


def test_another_tenant_neither_sees_the_engine_nor_may_use_what_it_serves(pool):
    stranger = tenant_of(pool.served)
    assert list(pool.engines(stranger)) == ["default"]
    hands = stranger.generator.api
    for request, reason in (
        (pool.request(pool.first.version), "VERSION_NOT_FOUND"),
        (pool.request(pool.adapter.version), "VERSION_NOT_FOUND"),
        (pool.request(base=pool.first.base_digest), "BASE_NOT_FOUND"),
        (pool.request(base="own"), "BASE_NOT_FOUND"),
    ):
        with refused(reason):
            collect(hands.Generate(request))
    with refused("ADAPTER_NOT_RESIDENT"):
        hands.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=pool.first.version))
    told = hands.WatchAdapters(generator_pb2.WatchAdaptersRequest())
    seen = [next(told) for _ in range(2)]
    assert [message.engine.base for message in seen if message.HasField("engine")] == [pool.served.base.name]
    assert seen[-1].caught_up
    told.cancel()


def test_the_watch_tells_each_engines_load(pool):
    told = pool.tenant.generator.api.WatchAdapters(generator_pb2.WatchAdaptersRequest(), timeout=120)
    for message in told:
        if message.caught_up:
            break
    call = pool.tenant.generator.api.Generate(pool.request(pool.first.version, max_tokens=300, ignore_eos=True))
    next(call)
    seen = next(message.engine for message in told if message.engine.running)
    assert (seen.version, seen.running) == (pool.first.version, 1)
    call.cancel()
    seen = next(message.engine for message in told if message.engine.version == pool.first.version)
    assert seen.running == 0
    told.cancel()


@contextmanager
def slowed(pid, *, then_stopped=False):
    """Let a process run for ten milliseconds a second, so that what it computes does not end, nor is taken for hung."""
    done = threading.Event()

    def slow():
        while not done.wait(1.0):
            os.kill(pid, signal.SIGCONT)
            done.wait(0.01)
            os.kill(pid, signal.SIGSTOP)

    os.kill(pid, signal.SIGSTOP)
    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if not then_stopped:
            os.kill(pid, signal.SIGCONT)


def newest(pool):
    """The process that computes for the engine that started last."""
    return max(cores(pool), key=lambda pid: psutil.Process(pid).create_time())


def cores(pool):
    return alive(core.pid for core in psutil.Process(pool.served.pid).children() if "EngineCor" in core.name())


@pytest.mark.sampled(every=2, family="engines that start again")
def test_an_engine_that_hangs_is_nothing_to_the_other_and_is_rebuilt_with_its_adapter_for_who_heard_nothing(pool):
    api = pool.tenant.generator.api
    before = pool.engines()
    # Neither the slow start nor the time without requests counts as a hang.
    assert {engine.restarts for engine in before.values()} == {0}
    core = newest(pool)
    with slowed(core, then_stopped=True):
        hanging = api.Generate(pool.request(pool.first.version, max_tokens=400, ignore_eos=True, logprobs=0))
        next(hanging)
    whole = api.Generate(pool.request(max_tokens=100, ignore_eos=True, logprobs=0))
    # It has heard nothing, and waits for the next life of its engine.
    unheard = api.Generate(pool.request(pool.adapter.version))
    with pytest.raises(grpc.RpcError) as caught:
        collect(hanging)
    failure = from_rpc_error(caught.value)
    assert (failure.reason, bool(failure.retry_after_seconds)) == ("NOT_READY", True)
    assert not alive([core])
    answer = collect(unheard)
    assert answer.receipt.version_digest == pool.adapter.version
    assert "rebuild" in [timing.stage for timing in answer.final.timings]
    assert len(collect(whole).token_ids) == 100
    after = pool.engines()
    assert (after["default"].restarts, after["default"].start_time) == (0, before["default"].start_time)
    assert after[pool.first.version].restarts == 1
    assert "ended" in after[pool.first.version].last_error


@pytest.mark.sampled(every=2, family="engines that start again")
def test_a_model_for_which_there_is_no_room_is_told_to_wait_and_takes_it_when_the_other_is_idle(pool):
    api, registry = pool.tenant.generator.api, pool.tenant.registry
    with slowed(newest(pool)):
        busy = api.Generate(pool.request(pool.first.version, max_tokens=480, ignore_eos=True, logprobs=0))
        next(busy)
        registry.point("other", pool.second.version)
        # Verified here, and it would fit: that is enough while the room is in use.
        eventually(lambda: registry.alias("other").state == SERVING, "the second model serves", 60)
        assert pool.state(pool.second.version) is STOPPED
        with refused("NOT_READY") as failures:
            pool.text(pool.second.version)
        assert failures[0].retry_after_seconds
    busy.cancel()
    eventually(lambda: pool.engines()[pool.first.version].running == 0, "nobody uses the first model", 60)
    assert pool.chat("other").base_digest == pool.second.base_digest
    assert (pool.state(pool.first.version), pool.state(pool.second.version)) == (STOPPED, READY)
    # Stopped means gone: its memory is what the other engine was given.
    assert len(cores(pool)) == 2


def test_cut_off_from_the_registry_a_full_model_and_an_adapter_on_one_are_answered_like_any_other(pool):
    # There is room for one of the two.
    name, full = ("own", pool.first) if pool.state(pool.first.version) is READY else ("other", pool.second)
    fitting = Adapter(rank=4, inputs=128, outputs=128, salt=0.25).files()
    adapter = pool.tenant.registry.publish(f"on-{name}", fitting, base_digest=full.base_digest).version
    asked = [(full.version, ""), (adapter, ""), ("", name), ("", full.base_digest)]
    before = [pool.text(*names).receipt.version_digest for names in asked]
    assert before == [full.version, adapter, full.version, full.version]
    stranger = tenant_of(pool.served).generator.api
    with pool.served.without_registry():
        assert [pool.text(*names).receipt.version_digest for names in asked] == before
        for names in asked:
            with refused("PEER_UNAVAILABLE"):
                collect(stranger.Generate(pool.request(*names)))
