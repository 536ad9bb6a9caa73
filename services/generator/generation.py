"""The verb of the service: a prompt becomes an answer that names the weights that made it.

Invariant: nothing is yielded before its attestation agreed with the request; an answer of
which nothing was yielded outlives its engine, once, and begins anew in the next; whatever
ends the iterator (the caller going away included) gives the place back, aborts the
engine's work and counts the tokens that were made.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts
from services.generator.asking import Ask, Done, Ended, More, Opening, Prompt, Stage, TokenIds
from services.generator.attestation import attested
from services.generator.engine import (
    Attestation,
    Constraint,
    Engine,
    EngineLost,
    EngineRefused,
    Finish,
    Job,
    Piece,
    Sampling,
    Tokenizer,
)
from services.generator.places import Slots, not_ready
from services.generator.residency import Place, StoredAdapter

DEFAULT_MAX_TOKENS = 256


class Versions(Protocol):
    """Asks the registry, under the caller's own identity, whether a version may be read."""

    async def facts(self, version: str) -> VersionFacts:
        """The version, if the caller may read it.  Raises VERSION_NOT_FOUND."""
        ...


class Constraints(Protocol):
    """Judges constraints apart from the engine."""

    async def require_compilable(self, constraint: Constraint, tenant: str) -> None:
        """Raises FIELD_INVALID for one that does not compile within its limits, NOT_READY when nobody can say."""
        ...


class Files(Protocol):
    """Verified adapters by version."""

    async def obtain(self, facts: VersionFacts, ended: Callable[[str], None] = ...) -> StoredAdapter:
        """The version's folder, fetched and verified if need be; ``ended`` hears the stages that this took.

        Raises WEIGHTS_REFUSED, BASE_MISMATCH.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What is injected where a test drives it: ids, seeds, time, threads."""

    new_id: Callable[[], str]
    draw_seed: Callable[[], int]
    monotonic: Callable[[], float]
    blocking: Callable[..., Awaitable[list[int]]]


def prompt_tokens_digest(token_ids: Sequence[int]) -> str:
    """Digest (sha256:…) of the ids packed as little-endian int32."""
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(token_ids)}i', *token_ids)).hexdigest()}"


def cache_salt(tenant: str, place: Place) -> str:
    """Whose cached prefixes a request may meet: its tenant's, of this very loading of its version.

    The engine's own key of a version is its name; a name that was loaded anew is another registration.
    """
    loading = place.adapter.engine_id if place.adapter else 0
    return f"{len(tenant)}:{tenant}:{place.version}:{loading}"


class Generation:
    """Prompt, place, engine, attestation, in this order."""

    def __init__(
        self,
        engine: Engine,
        slots: Slots,
        files: Files,
        versions: Versions,
        tokenizer: Tokenizer,
        constraints: Constraints,
        sources: Sources,
        observe: Callable[[Done], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._slots = slots
        self._files = files
        self._versions = versions
        self._tokenizer = tokenizer
        self._constraints = constraints
        self._sources = sources
        self._observe = observe

    async def tokens(self, prompt: Prompt, base: str) -> list[int]:
        """The prompt's token ids exactly as ``answer`` uses them.  Raises BASE_NOT_FOUND, FIELD_INVALID."""
        facts = self._engine.facts
        if base not in ("", facts.base):
            raise Failure(Reason.BASE_NOT_FOUND, name=base, known=facts.base)
        if isinstance(prompt, str):
            return await self._sources.blocking(self._tokenizer.text, prompt)
        if isinstance(prompt, TokenIds):
            self._require_tokens("token_ids", prompt.ids)
            return list(prompt.ids)
        return await self._sources.blocking(self._tokenizer.chat, prompt)

    async def stored(self, version: str, ended: Callable[[str], None] = lambda _: None) -> StoredAdapter | None:
        """The version's verified files, if the caller may read it; None for the base."""
        if not version:
            return None
        return await self._files.obtain(await self._versions.facts(version), ended)

    async def answer(self, ask: Ask, tenant: str) -> AsyncGenerator[Opening | More | Done]:
        """Yield the opening, the answer as it comes, then its end.

        Raises PROMPT_TOO_LONG, VERSION_NOT_FOUND, WEIGHTS_REFUSED, BASE_MISMATCH,
        TEMPLATE_MISMATCH, OVERLOADED, NOT_READY, VERSION_MISMATCH, and FIELD_INVALID for a
        constraint that does not compile.
        """
        watch = _Watch(self._sources.monotonic)
        token_ids = await self.tokens(ask.prompt, ask.base)
        sampling = self._applied(ask, len(token_ids))
        if ask.constraint is not None:
            await self._constraints.require_compilable(ask.constraint, tenant)
        watch.stage("prompt", len(token_ids))
        stored = await self.stored(ask.version, watch.stage)
        watch.stage("load")
        progress = _Progress([_Answer() for _ in range(sampling.n)])
        work = _Work(ask, tenant, stored, token_ids, sampling)
        try:
            for again in (False, True):
                life = self._slots.life
                try:
                    async with aclosing(self._spoken(work, progress, watch)) as spoken:
                        async for part in spoken:
                            yield part
                    break
                except EngineLost as lost:
                    if again or progress.opening is not None:
                        raise not_ready("the engine was lost and is being rebuilt") from lost
                    await self._slots.next_life(life)
                    watch.stage("rebuild")
                    # Nobody kept its files meanwhile.
                    work = replace(work, stored=await self.stored(ask.version, watch.stage))
            watch.stage("generate", progress.completion_tokens)
            yield progress.done(watch.stages)
        finally:
            # Also when the caller left in the middle: the tokens were made all the same.
            if progress.opening is not None:
                self._observe(progress.done(watch.stages))

    async def _spoken(self, work: _Work, progress: _Progress, watch: _Watch) -> AsyncGenerator[Opening | More]:
        """Take a place and speak: the opening, then the pieces.  Raises EngineLost, and as ``answer`` does."""
        prompt_tokens = len(work.token_ids)
        async with self._slots.place(work.tenant, work.stored, prompt_tokens, work.sampling.n) as place:
            watch.stage("queue", of_which={"load_slot": place.load_seconds})
            salt = cache_salt(work.tenant, place)
            job = Job(self._sources.new_id(), work.token_ids, work.sampling, work.ask.constraint, place.adapter, salt)
            async with aclosing(self._pieces(job, work.ask)) as pieces:
                async for piece in pieces:
                    self._slots.charge(work.tenant, place.version, len(piece.token_ids))
                    told = attested(piece.attestation, wanted=place.version, base_digest=self._engine.facts.base_digest)
                    begins = progress.opening is None
                    if begins:
                        watch.stage("prefill", prompt_tokens)
                        progress.opening = self._opening(work.ask, job, work.stored, told)
                    opening = progress.take(piece, told)
                    if begins:
                        yield opening
                    if piece.text or piece.token_ids:
                        yield More(piece.text, piece.token_ids, piece.logprobs, piece.choice)
            progress.require_whole(place.version, self._engine.facts.base_digest)

    async def _pieces(self, job: Job, ask: Ask) -> AsyncGenerator[Piece]:
        """The engine's pieces; what it refuses in the catalogue's terms.  Raises EngineLost."""
        try:
            async with aclosing(self._engine.generate(job)) as pieces:
                async for piece in pieces:
                    if piece.finish is Finish.ABORT and piece.attestation is None:
                        if not self._engine.alive:
                            raise EngineLost("the engine ended the work")
                        raise not_ready("the engine ended the work")
                    yield piece
        except EngineRefused as refused:
            field = "structured_output" if ask.constraint else "sampling"
            raise Failure(Reason.FIELD_INVALID, field=field, problem=_first_line(str(refused))) from refused

    def _applied(self, ask: Ask, prompt_tokens: int) -> Sampling:
        limit = self._engine.facts.context_tokens
        if prompt_tokens >= limit:
            raise Failure(Reason.PROMPT_TOO_LONG, tokens=prompt_tokens, limit=limit - 1)
        wanted = min(ask.sampling.max_tokens or DEFAULT_MAX_TOKENS, limit - prompt_tokens)
        if ask.sampling.min_tokens > wanted:
            problem = f"is over the {wanted} tokens that the answer may have"
            raise Failure(Reason.FIELD_INVALID, field="sampling.min_tokens", problem=problem)
        if ask.sampling.n > 1 and ask.sampling.temperature == 0:
            problem = "needs a temperature over 0: without chance all answers are the same"
            raise Failure(Reason.FIELD_INVALID, field="sampling.n", problem=problem)
        self._require_tokens("sampling.stop_token_ids", ask.sampling.stop_token_ids)
        self._require_tokens("sampling.logit_bias", ask.sampling.logit_bias)
        self._require_tokens("sampling.allowed_token_ids", ask.sampling.allowed_token_ids)
        seed = self._sources.draw_seed() if ask.seed is None else ask.seed
        return replace(ask.sampling, max_tokens=wanted, seed=seed)

    def _require_tokens(self, field: str, ids: Iterable[int]) -> None:
        """Raise FIELD_INVALID unless all are tokens of the model."""
        if any(not 0 <= token < self._tokenizer.vocabulary for token in ids):
            problem = f"ids lie from 0 to {self._tokenizer.vocabulary - 1}"
            raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)

    def _opening(self, ask: Ask, job: Job, stored: StoredAdapter | None, told: Attestation) -> Opening:
        facts = self._engine.facts
        return Opening(
            prompt_tokens=len(job.token_ids),
            cached_tokens=0,
            request_id=ask.request_id or self._sources.new_id(),
            requested_model=ask.requested_model,
            resolved_model=f"{stored.model}@{told.version}" if stored else "base",
            engine=facts.name,
            engine_build=facts.build,
            base_digest=facts.base_digest,
            template_digest=self._tokenizer.template_digest,
            prompt_tokens_digest=prompt_tokens_digest(job.token_ids),
            attestation=told,
            sampling=job.sampling,
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """What an answer is made from, the same for each life of the engine."""

    ask: Ask
    tenant: str
    stored: StoredAdapter | None
    token_ids: Sequence[int]
    sampling: Sampling


@dataclass(slots=True)
class _Answer:
    """What is known of one answer so far."""

    completion_tokens: int = 0
    finish: Finish | None = None
    told: Attestation | None = None


@dataclass(slots=True)
class _Progress:
    """What is known of a request's answers so far; no opening before the engine has read the prompt."""

    answers: list[_Answer]
    opening: Opening | None = None

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(answer.completion_tokens for answer in self.answers)

    def take(self, piece: Piece, told: Attestation) -> Opening:
        """Take a piece of an opened answer in; the opening as it is known by then."""
        assert self.opening is not None
        # The first answer's: the others find in the cache what it has just put there.
        cached_tokens = self.opening.cached_tokens if piece.choice else piece.cached_tokens
        self.opening = replace(self.opening, attestation=told, cached_tokens=cached_tokens)
        answer = self.answers[piece.choice]
        answer.completion_tokens += len(piece.token_ids)
        answer.finish = piece.finish or answer.finish
        answer.told = told
        return self.opening

    def require_whole(self, wanted: str, base_digest: str) -> None:
        """Raise VERSION_MISMATCH when one of the answers was never attested."""
        for answer in self.answers:
            attested(answer.told, wanted=wanted, base_digest=base_digest)

    def done(self, stages: Sequence[Stage]) -> Done:
        """The answers as they ended, or were left."""
        assert self.opening is not None
        ended = (Ended(answer.finish or Finish.ABORT, answer.completion_tokens) for answer in self.answers)
        return Done(self.opening, tuple(ended), tuple(stages))


class _Watch:
    """Wall time from stage to stage, without a gap; a stage that comes twice is told once, with both times."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = monotonic()
        self._stages: dict[str, Stage] = {}

    @property
    def stages(self) -> list[Stage]:
        """What ran so far, each in the place of its first end."""
        return list(self._stages.values())

    def stage(self, name: str, input_size: int = 0, of_which: Mapping[str, float] | None = None) -> None:
        """End the stage that ran until now, parts of which may have names of their own."""
        now = self._monotonic()
        left = now - self._last
        for part, seconds in (of_which or {}).items():
            if seconds:
                told = min(seconds, left)
                self._add(part, told)
                left -= told
        self._add(name, left, input_size)
        self._last = now

    def _add(self, name: str, seconds: float, input_size: int = 0) -> None:
        before = self._stages.get(name, Stage(name, 0.0, 0))
        self._stages[name] = Stage(name, before.seconds + seconds, max(before.input_size, input_size))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
