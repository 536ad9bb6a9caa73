"""Between the contract and the domain: the only file of the generator that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2

from services.generator.accounting import Located, Usage
from services.generator.asking import Ask, Done, More, Opening, Prompt, TokenIds
from services.generator.engine import Constraint, ConstraintKind, Finish, Logprob, Sampling, Turn
from services.generator.fleet import Prepared
from services.generator.priorities import Priority
from services.generator.residency import Tier
from services.generator.supervision import EngineState
from services.generator.verbs import Changes, EngineView

_ROLES = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
    chat_pb2.CHAT_ROLE_TOOL: "tool",
}
_FINISH = {
    Finish.STOP: chat_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    Finish.ABORT: chat_pb2.FINISH_REASON_ABORT,
}
_STATES = {
    EngineState.STOPPED: generator_pb2.ENGINE_STATE_STOPPED,
    EngineState.QUEUED: generator_pb2.ENGINE_STATE_QUEUED,
    EngineState.STARTING: generator_pb2.ENGINE_STATE_STARTING,
    EngineState.READY: generator_pb2.ENGINE_STATE_READY,
    EngineState.DRAINING: generator_pb2.ENGINE_STATE_DRAINING,
    EngineState.FAILED: generator_pb2.ENGINE_STATE_FAILED,
}
_TIERS = {
    Tier.FILE: generator_pb2.TIER_FILE,
    Tier.MEMORY: generator_pb2.TIER_MEMORY,
    Tier.SLOT: generator_pb2.TIER_SLOT,
}
_PRIORITIES = {
    Priority.AD_HOC: generator_pb2.PRIORITY_AD_HOC,
    Priority.PREVIOUS: generator_pb2.PRIORITY_PREVIOUS,
    Priority.CANDIDATE: generator_pb2.PRIORITY_CANDIDATE,
    Priority.SERVING: generator_pb2.PRIORITY_SERVING,
    Priority.PROTECTED: generator_pb2.PRIORITY_PROTECTED,
}
_MAX_ERROR = 2000
_TEXT_CONSTRAINTS = {
    "json_schema": ConstraintKind.JSON_SCHEMA,
    "regex": ConstraintKind.REGEX,
    "grammar": ConstraintKind.GRAMMAR,
}


def of_prompt(request: generator_pb2.GenerateRequest | generator_pb2.TokenizeRequest) -> Prompt:
    """Turns, a text, or token ids."""
    if request.WhichOneof("prompt") == "conversation":
        # A list: the domain tells turns from token ids by it.
        return [Turn(_ROLES[message.role], message.content) for message in request.conversation.messages]
    if isinstance(request, generator_pb2.GenerateRequest) and request.WhichOneof("prompt") == "token_ids":
        return TokenIds(tuple(request.token_ids.ids))
    return request.text


def of_request(request: generator_pb2.GenerateRequest) -> Ask:
    """The domain's ask; ``max_tokens`` 0 and seed None mean that the server decides."""
    sampling = request.sampling
    return Ask(
        prompt=of_prompt(request),
        version=request.version,
        base=request.base,
        sampling=Sampling(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
            top_k=sampling.top_k,
            stop=tuple(sampling.stop),
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            repetition_penalty=sampling.repetition_penalty if sampling.HasField("repetition_penalty") else 1.0,
            logprobs=sampling.logprobs if sampling.HasField("logprobs") else None,
            min_p=sampling.min_p,
            min_tokens=sampling.min_tokens,
            ignore_eos=sampling.ignore_eos,
            stop_token_ids=tuple(sampling.stop_token_ids),
            logit_bias=dict(sampling.logit_bias),
            n=sampling.n if sampling.HasField("n") else 1,
            bad_words=tuple(sampling.bad_words),
            allowed_token_ids=tuple(sampling.allowed_token_ids),
            include_stop_str_in_output=sampling.include_stop_str_in_output,
            skip_special_tokens=sampling.skip_special_tokens if sampling.HasField("skip_special_tokens") else True,
        ),
        seed=sampling.seed if sampling.HasField("seed") else None,
        constraint=_constraint(request),
        request_id=request.request_id,
        requested_model=request.requested_model,
    )


def _constraint(request: generator_pb2.GenerateRequest) -> Constraint | None:
    if not request.HasField("structured_output"):
        return None
    shape = request.structured_output
    kind = shape.WhichOneof("constraint")
    if kind == "choice":
        return Constraint(ConstraintKind.CHOICE, choices=tuple(shape.choice.values))
    if kind == "json_object":
        return Constraint(ConstraintKind.JSON_OBJECT) if shape.json_object else None
    return Constraint(_TEXT_CONSTRAINTS[str(kind)], getattr(shape, str(kind)))


def to_response(
    part: Opening | More | Done, request: generator_pb2.GenerateRequest, complete_time: datetime
) -> generator_pb2.GenerateResponse:
    """One message of the answer; ``complete_time`` is used on the last."""
    if isinstance(part, Opening):
        receipt = _receipt(part, request, _usage(part, 0))
        return generator_pb2.GenerateResponse(opening=generator_pb2.Opening(receipt=receipt))
    if isinstance(part, More):
        delta = generator_pb2.Delta(
            text=part.text,
            token_ids=part.token_ids,
            logprobs=[_logprob(told) for told in part.logprobs],
            choice=part.choice,
        )
        return generator_pb2.GenerateResponse(delta=delta)
    usage = _usage(part.opening, part.completion_tokens)
    receipt = _receipt(part.opening, request, usage)
    receipt.complete_time.CopyFrom(_timestamp(complete_time))
    timings = [
        receipt_pb2.StageTiming(stage=stage.name, seconds=stage.seconds, input_size=stage.input_size)
        for stage in part.stages
    ]
    choices = [
        chat_pb2.ChoiceEnd(
            choice=number, finish_reason=_FINISH[ended.finish], completion_tokens=ended.completion_tokens
        )
        for number, ended in enumerate(part.choices)
    ]
    final = generator_pb2.Final(
        finish_reason=_FINISH[part.finish], usage=usage, timings=timings, receipt=receipt, choices=choices
    )
    return generator_pb2.GenerateResponse(final=final)


def _usage(opening: Opening, completion_tokens: int) -> receipt_pb2.Usage:
    return receipt_pb2.Usage(
        prompt_tokens=opening.prompt_tokens,
        completion_tokens=completion_tokens,
        cached_prompt_tokens=opening.cached_tokens,
    )


def _receipt(opening: Opening, request: generator_pb2.GenerateRequest, usage: receipt_pb2.Usage) -> receipt_pb2.Receipt:
    return receipt_pb2.Receipt(
        request_id=opening.request_id,
        engine_build=opening.engine_build,
        base_digest=opening.base_digest,
        version_digest=opening.version,
        requested_model=opening.requested_model,
        template_digest=opening.template_digest,
        prompt_tokens_digest=opening.prompt_tokens_digest,
        sampling=_sampling(opening.sampling),
        sources=request.sources,
        usage=usage,
        engine_slot=opening.attestation.slot,
        engine=opening.engine,
        resolved_model=opening.resolved_model,
    )


def _sampling(sampling: Sampling) -> chat_pb2.Sampling:
    return chat_pb2.Sampling(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        stop=sampling.stop,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logprobs=sampling.logprobs,
        min_p=sampling.min_p,
        min_tokens=sampling.min_tokens,
        ignore_eos=sampling.ignore_eos,
        stop_token_ids=sampling.stop_token_ids,
        logit_bias=sampling.logit_bias,
        n=sampling.n,
        bad_words=sampling.bad_words,
        allowed_token_ids=sampling.allowed_token_ids,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
    )


def _logprob(told: Logprob) -> chat_pb2.TokenLogprob:
    return chat_pb2.TokenLogprob(
        token=told.text, token_id=told.token_id, logprob=told.logprob, top=[_logprob(other) for other in told.top]
    )


def to_adapter(located: Located, now: datetime, monotonic: float) -> generator_pb2.Adapter:
    """An adapter as this generator holds it; ``now`` and ``monotonic`` are the same moment on two clocks."""
    stored, held = located.stored, located.resident
    adapter = generator_pb2.Adapter(
        version=stored.version,
        tenant=stored.tenant,
        model=stored.model,
        tier=generator_pb2.TIER_FILE,
        size_bytes=stored.size_bytes,
        rank=stored.rank,
        priority=_PRIORITIES[located.priority],
    )
    if held is not None:
        adapter.tier = _TIERS[held.tier]
        adapter.size_bytes = held.weight_bytes if held.at_hand else stored.size_bytes
        adapter.in_flight, adapter.pinned, adapter.load_seconds = held.in_flight, held.pinned, held.load_seconds
        if held.used_at:
            adapter.last_use_time.CopyFrom(_timestamp(now - timedelta(seconds=monotonic - held.used_at)))
    elif located.shelved is not None:
        adapter.last_use_time.CopyFrom(_timestamp(datetime.fromtimestamp(located.shelved.used_at, UTC)))
    return adapter


def to_tier(usage: Usage) -> generator_pb2.TierUsage:
    """What lies in one tier."""
    return generator_pb2.TierUsage(
        tier=_TIERS[usage.tier],
        versions=usage.versions,
        size_bytes=usage.size_bytes,
        limit_versions=usage.limit_versions,
        limit_bytes=usage.limit_bytes,
        hits=usage.tally.hits,
        loads=usage.tally.loads,
        evictions=usage.tally.evictions,
    )


def to_departed(located: Located) -> generator_pb2.Adapter:
    """An adapter that was unloaded."""
    stored = located.stored
    return generator_pb2.Adapter(
        version=stored.version, tenant=stored.tenant, model=stored.model, tier=generator_pb2.TIER_REMOTE
    )


def to_full_model(prepared: Prepared) -> generator_pb2.Adapter:
    """A full model that an engine of its own has loaded."""
    target = prepared.target
    return generator_pb2.Adapter(
        version=target.version,
        tenant=prepared.tenant,
        model=target.model,
        tier=generator_pb2.TIER_SLOT,
        size_bytes=target.host.size_bytes,
        in_flight=target.host.slots.running,
    )


def to_loaded(loaded: Located | Prepared, now: datetime, monotonic: float) -> generator_pb2.Adapter:
    """What LoadAdapter loaded."""
    return to_full_model(loaded) if isinstance(loaded, Prepared) else to_adapter(loaded, now, monotonic)


def to_changes(changes: Changes, now: datetime, monotonic: float) -> Iterator[generator_pb2.WatchAdaptersResponse]:
    """The messages of one round of changes."""
    for view in changes.engines:
        yield generator_pb2.WatchAdaptersResponse(engine=to_engine(view))
    for held in changes.entered:
        yield generator_pb2.WatchAdaptersResponse(adapter=to_adapter(held, now, monotonic))
    for held in changes.left:
        yield generator_pb2.WatchAdaptersResponse(adapter=to_departed(held))
    if changes.caught_up:
        yield generator_pb2.WatchAdaptersResponse(caught_up=True)


def to_engine(view: EngineView) -> generator_pb2.Engine:
    """One engine."""
    facts = view.facts
    engine = generator_pb2.Engine(
        engine=facts.name,
        state=_STATES[view.state],
        build=facts.build,
        base=facts.base,
        base_digest=facts.base_digest,
        slots=facts.slots,
        max_rank=facts.max_rank,
        context_tokens=facts.context_tokens,
        running=view.running,
        waiting=view.waiting,
        restarts=view.restarts,
        memory_bytes=view.memory_bytes,
        estimated_bytes=view.estimated_bytes,
        model=view.model,
        version=view.version,
        idle_seconds=view.idle_seconds,
        last_error=view.last_error[:_MAX_ERROR],
    )
    if view.started_at is not None:
        engine.start_time.CopyFrom(_timestamp(view.started_at))
    return engine


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp
