"""The verb of the service: a prompt becomes an answer that names the weights that made it.

Which engine answers is settled first (``bases``), its start is the pool's affair.

Invariant: nothing is yielded before its attestation agreed with the request; an answer of
which nothing was yielded outlives its engine, once, and begins anew in the next; whatever
ends the iterator (the caller going away included) gives the place back, aborts the
engine's work and counts the tokens that were made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts
from services.generator.asking import Ask, Done, More, Opening, Prompt, TokenIds, tokens_digest
from services.generator.attestation import attested
from services.generator.bases import Target, Versions
from services.generator.calls import Readers
from services.generator.engine import (
    Attestation,
    EngineLost,
    EngineRefused,
    Finish,
    Job,
    Piece,
    Sampling,
)
from services.generator.forecast import Wanted
from services.generator.hosts import Host
from services.generator.places import not_ready
from services.generator.progress import Progress, Watch
from services.generator.prompts import Prompts, require_tokens, template_digest
from services.generator.residency import Place, StoredAdapter
from services.generator.tools import CallForm, ToolUse

DEFAULT_MAX_TOKENS = 256


class Finder(Protocol):
    """Says which engine a request goes to; see ``bases``."""

    async def find(self, versions: Versions, version: str, base: str) -> Target:
        """The target of a version, or of a base alone."""
        ...


class Engines(Protocol):
    """Has engines answer; see ``pool``."""

    def use(self, host: Host, tenant: str) -> AbstractAsyncContextManager[None]:
        """Inside the block the host's engine answers, started if need be."""
        ...


class Files(Protocol):
    """Verified adapters by version."""

    async def obtain(self, facts: VersionFacts, ended: Callable[[str], None] = ...) -> StoredAdapter:
        """The version's folder, fetched and verified if need be; ``ended`` hears the stages that this took.

        Raises WEIGHTS_REFUSED, BASE_MISMATCH.
        """
        ...

    def in_hand(self, version: str) -> AbstractContextManager[None]:
        """Inside the block the version's files stay, whoever needs their room."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """What is injected where a test drives it: ids, seeds, time, threads."""

    new_id: Callable[[], str]
    draw_seed: Callable[[], int]
    monotonic: Callable[[], float]
    blocking: Callable[..., Awaitable[list[int]]]


def cache_salt(tenant: str, place: Place) -> str:
    """Whose cached prefixes a request may meet: its tenant's, of this very loading of its version.

    The engine's own key of a version is its name; a name that was loaded anew is another registration.
    """
    loading = place.adapter.engine_id if place.adapter else 0
    return f"{len(tenant)}:{tenant}:{place.version}:{loading}"


class Generation:
    """Engine, prompt, place, answer, attestation, in this order."""

    def __init__(
        self,
        bases: Finder,
        pool: Engines,
        files: Files,
        versions: Versions,
        prompts: Prompts,
        sources: Sources,
        observe: Callable[[Done], None] = lambda _: None,
    ) -> None:
        self._bases = bases
        self._pool = pool
        self._files = files
        self._versions = versions
        self._prompts = prompts
        self._sources = sources
        self._observe = observe

    async def target(self, version: str, base: str = "") -> Target:
        """Where a request of the present caller goes.  Raises as ``Bases.find``."""
        return await self._bases.find(self._versions, version, base)

    async def tokens(self, prompt: Prompt, target: Target, tenant: str, tools: ToolUse | None = None) -> list[int]:
        """The prompt's token ids exactly as ``answer`` uses them; no engine is started.  Raises as it does."""
        # Only a conversation is put through a template, and only a version's files hold one of its own.
        stored = None if isinstance(prompt, str | TokenIds) else await self.stored(target)
        return await self._prompts.tokens(prompt, target.host, stored, tenant, tools)

    async def stored(self, target: Target, ended: Callable[[str], None] = lambda _: None) -> StoredAdapter | None:
        """The verified files of the target's adapter; None when the base answers alone."""
        return None if target.facts is None else await self._files.obtain(target.facts, ended)

    async def answer(self, ask: Ask, tenant: str) -> AsyncGenerator[Opening | More | Done]:
        """Yield the opening, the answer as it comes, then its end.

        Raises PROMPT_TOO_LONG, VERSION_NOT_FOUND, BASE_NOT_FOUND, WEIGHTS_REFUSED, BASE_MISMATCH,
        TEMPLATE_MISMATCH, TEMPLATE_UNRENDERABLE, TOOLS_UNSUPPORTED, ENGINE_TOO_LARGE, OVERLOADED, TOO_BUSY_FOR_DEADLINE, NOT_READY,
        VERSION_MISMATCH, ANSWER_NOT_FINITE for weights that overflow, and FIELD_INVALID for a constraint that does not compile.
        """
        watch = Watch(self._sources.monotonic)
        target = await self.target(ask.version, ask.base)
        # Before anything is done for it, though how long its prompt is is not known yet.
        target.host.slots.require_in_time(tenant, _wanted(ask, ask.sampling, 0), background=ask.background)
        with self.in_hand(target):
            # Before the prompt: a version may bring the template that it is written by.
            stored = await self.stored(target, watch.stage)
            watch.stage("load")
            work = await self._prepared(ask, tenant, target, stored)
            watch.stage("prompt", len(work.token_ids))
            async with aclosing(self._answered(work, watch)) as parts:
                async for part in parts:
                    yield part

    def in_hand(self, target: Target) -> AbstractContextManager[None]:
        """Inside the block the files of the target's adapter stay: its turn may come long after they were obtained."""
        return nullcontext() if target.facts is None else self._files.in_hand(target.version)

    async def _prepared(self, ask: Ask, tenant: str, target: Target, stored: StoredAdapter | None) -> _Work:
        """The request as the engine will get it, once all of it was checked."""
        host = target.host
        token_ids = await self._prompts.tokens(ask.prompt, host, stored, tenant, ask.tools)
        form = None
        if ask.tools is not None and ask.tools.offered:
            form = await self._prompts.form(host, stored, tenant)
            ask = ask.held_to(form)
        sampling = self._applied(ask, len(token_ids), host)
        if ask.constraint is not None:
            field = "structured_output" if form is None else "tool_use.tools"
            await host.constraints.require_compilable(ask.constraint, tenant, field)
        return _Work(ask, tenant, target, stored, token_ids, sampling, form)

    async def _answered(self, work: _Work, watch: Watch) -> AsyncGenerator[Opening | More | Done]:
        """Have the engine answer, started if need be; whatever ends it, the tokens that were made are counted."""
        host = work.target.host
        progress = Progress.of(work.sampling.n)
        cold = not (host.base.always_on or host.ready)
        try:
            async with self._pool.use(host, work.tenant):
                if cold:
                    watch.stage("start")
                async with aclosing(self._outliving(work, progress, watch)) as parts:
                    async for part in parts:
                        yield part
            watch.stage("generate", progress.completion_tokens)
            yield progress.done(watch.stages)
        finally:
            # Also when the caller left in the middle: the tokens were made all the same.
            if progress.opening is not None:
                self._observe(progress.done(watch.stages))

    async def _outliving(self, work: _Work, progress: Progress, watch: Watch) -> AsyncGenerator[Opening | More]:
        """Speak, and begin anew in the engine's next life when it ended before anything was said."""
        host = work.target.host
        for again in (False, True):
            life = host.slots.life
            try:
                async with aclosing(self._spoken(work, progress, watch)) as spoken:
                    async for part in spoken:
                        yield part
                return
            except EngineLost as lost:
                if again or progress.opening is not None:
                    raise not_ready("the engine was lost and is being rebuilt") from lost
                await host.next_life(life)
                watch.stage("rebuild")
                # Nobody kept its files meanwhile.
                work = replace(work, stored=await self.stored(work.target, watch.stage))

    async def _spoken(self, work: _Work, progress: Progress, watch: Watch) -> AsyncGenerator[Opening | More]:
        """Take a place and speak: the opening, then the pieces.  Raises EngineLost, and as ``answer`` does."""
        prompt_tokens = len(work.token_ids)
        host = work.target.host
        background = work.ask.background
        wanted = _wanted(work.ask, work.sampling, prompt_tokens)
        turn = host.slots.place(work.tenant, work.stored, wanted, background=background)
        async with turn as place:
            watch.stage("queue", of_which={"load_slot": place.load_seconds})
            job = Job(
                self._sources.new_id(),
                work.token_ids,
                work.sampling,
                work.ask.constraint,
                place.adapter,
                cache_salt(work.tenant, place),
                background,
            )
            readers = work.readers()
            async with aclosing(self._pieces(job, work)) as pieces:
                async for raw in pieces:
                    piece = raw if readers is None else readers.read(raw)
                    host.slots.charge(work.tenant, place, len(piece.token_ids))
                    told = attested(piece.attestation, wanted=place.version, base_digest=host.digest)
                    if not piece.finite:
                        raise Failure(Reason.ANSWER_NOT_FINITE, name=work.target.name)
                    begins = progress.opening is None
                    if begins:
                        watch.stage("prefill", prompt_tokens)
                        progress.opening = self._opening(work, job, told)
                    opening = progress.take(piece, told)
                    if begins:
                        yield opening
                    if piece.text or piece.token_ids or piece.calls:
                        yield More(piece.text, piece.token_ids, piece.logprobs, piece.choice, piece.calls)
            progress.require_whole(place.version, host.digest)

    async def _pieces(self, job: Job, work: _Work) -> AsyncGenerator[Piece]:
        """The engine's pieces; what it refuses in the catalogue's terms.  Raises EngineLost."""
        engine = work.target.host.engine
        try:
            async with aclosing(engine.generate(job)) as pieces:
                async for piece in pieces:
                    if piece.finish is Finish.ABORT and piece.attestation is None:
                        if not engine.alive:
                            raise EngineLost("the engine ended the work")
                        raise not_ready("the engine ended the work")
                    yield piece
        except EngineRefused as refused:
            field = "tool_use.tools" if work.form else "structured_output" if work.ask.constraint else "sampling"
            raise Failure(Reason.FIELD_INVALID, field=field, problem=_first_line(str(refused))) from refused

    def _applied(self, ask: Ask, prompt_tokens: int, host: Host) -> Sampling:
        limit = host.engine.facts.context_tokens
        if prompt_tokens >= limit:
            # An answer of one token would not fit either, so fewer of them are no help.
            raise Failure(Reason.PROMPT_TOO_LONG, tokens=prompt_tokens, limit=limit - 1, advice="Shorten it")
        wanted = min(ask.sampling.max_tokens or DEFAULT_MAX_TOKENS, limit - prompt_tokens)
        if ask.sampling.min_tokens > wanted:
            problem = f"is over the {wanted} tokens that the answer may have"
            raise Failure(Reason.FIELD_INVALID, field="sampling.min_tokens", problem=problem)
        if ask.sampling.n > 1 and ask.sampling.temperature == 0:
            problem = "needs a temperature over 0: without chance all answers are the same"
            raise Failure(Reason.FIELD_INVALID, field="sampling.n", problem=problem)
        if ask.constraint is not None and ask.sampling.allowed_token_ids:
            problem = "cannot stand beside a structured output: both say which tokens may come"
            raise Failure(Reason.FIELD_INVALID, field="sampling.allowed_token_ids", problem=problem)
        require_tokens(host, "sampling.stop_token_ids", ask.sampling.stop_token_ids)
        require_tokens(host, "sampling.logit_bias", ask.sampling.logit_bias)
        require_tokens(host, "sampling.allowed_token_ids", ask.sampling.allowed_token_ids)
        seed = self._sources.draw_seed() if ask.seed is None else ask.seed
        return replace(ask.sampling, max_tokens=wanted, seed=seed)

    def _opening(self, work: _Work, job: Job, told: Attestation) -> Opening:
        target, ask = work.target, work.ask
        facts = target.host.engine.facts
        return Opening(
            prompt_tokens=len(job.token_ids),
            cached_tokens=0,
            request_id=ask.request_id or self._sources.new_id(),
            requested_model=ask.requested_model,
            resolved_model=target.name,
            version=target.version,
            engine=facts.name,
            engine_build=facts.build,
            base_digest=told.base_digest,
            template_digest=template_digest(target.host, work.stored),
            prompt_tokens_digest=tokens_digest(job.token_ids),
            attestation=told,
            sampling=job.sampling,
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """What an answer is made from, in each life of the engine."""

    ask: Ask
    tenant: str
    target: Target
    stored: StoredAdapter | None
    token_ids: Sequence[int]
    sampling: Sampling
    form: CallForm | None

    def readers(self) -> Readers | None:
        """What reads calls out of the answers, from their beginning; None where no tools are offered."""
        if self.form is None or self.ask.tools is None:
            return None
        return Readers(self.form, self.ask.tools, self.sampling.n)


def _wanted(ask: Ask, sampling: Sampling, prompt_tokens: int) -> Wanted:
    return Wanted(prompt_tokens, sampling.n, sampling.max_tokens or DEFAULT_MAX_TOKENS, ask.deadline, ask.weight)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
