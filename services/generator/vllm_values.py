"""Between our terms and vLLM's, for one request: the adapter, how tokens are chosen, and the pieces of answers."""

from __future__ import annotations

from typing import Any

from services.generator.engine import (
    Attestation,
    Constraint,
    ConstraintKind,
    EngineAdapter,
    Finish,
    Job,
    Logprob,
    Piece,
    Sampling,
)


def lora_request(adapter: EngineAdapter | None) -> Any:
    """An adapter; None for the base."""
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name=adapter.name, lora_int_id=adapter.engine_id, lora_path=str(adapter.folder.absolute()))


def priority(job: Job) -> int:
    """Where a job stands among others: vLLM's lower numbers go first, and its highest are preempted first."""
    return int(job.background)


def sampling_params(sampling: Sampling, constraint: Constraint | None) -> Any:
    """How tokens are chosen, told piece by piece.  Raises ValueError for what vLLM does not take."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed if sampling.temperature > 0 else None,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=sampling.ignore_eos,
        min_tokens=sampling.min_tokens,
        min_p=sampling.min_p,
        logit_bias=dict(sampling.logit_bias) or None,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        logprobs=sampling.logprobs,
        structured_outputs=_structured(constraint),
        n=sampling.n,
        bad_words=list(sampling.bad_words),
        allowed_token_ids=list(sampling.allowed_token_ids) or None,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
        output_kind=RequestOutputKind.DELTA,
    )


def _structured(constraint: Constraint | None) -> Any:
    if constraint is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    if constraint.kind is ConstraintKind.CHOICE:
        return StructuredOutputsParams(choice=list(constraint.choices))
    if constraint.kind is ConstraintKind.JSON_OBJECT:
        return StructuredOutputsParams(json_object=True)
    return StructuredOutputsParams(**{constraint.kind.value: constraint.text})


def piece_of(completion: Any, sampling: Sampling) -> Piece:
    """More of one answer, with what the worker told of it."""
    from services.generator.plugin.frontend import told

    record, cached_tokens, finite = told(completion)
    finish = completion.finish_reason
    return Piece(
        text=completion.text,
        token_ids=tuple(completion.token_ids),
        logprobs=_logprobs(completion, sampling.logprobs),
        finish=Finish(finish) if finish in ("stop", "length") else Finish.ABORT if finish else None,
        cached_tokens=cached_tokens,
        attestation=Attestation(*record) if record else None,
        choice=completion.index,
        finite=finite,
    )


def _logprobs(completion: Any, wanted: int | None) -> tuple[Logprob, ...]:
    if wanted is None or not completion.logprobs:
        return ()
    told = []
    for token_id, alternatives in zip(completion.token_ids, completion.logprobs, strict=False):
        best = sorted(alternatives.items(), key=lambda item: item[1].rank or 0)[:wanted]
        top = tuple(Logprob(other, found.decoded_token or "", found.logprob) for other, found in best)
        chosen = alternatives[token_id]
        told.append(Logprob(token_id, chosen.decoded_token or "", chosen.logprob, top))
    return tuple(told)
