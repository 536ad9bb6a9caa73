"""What the generator asks of an engine, in its own terms; ``engine_vllm`` is one.

Invariant: an engine knows adapters only as verified local folders and never decides
which of them are resident: loading, unloading and the number in flight are the policy
of ``residency``.  Every piece that ends an answer carries the engine's own attestation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from services.generator.conversation import CallDelta, Turn

BASE_SLOT = -1


class Finish(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    TOOL_CALLS = "tool_calls"


class ConstraintKind(Enum):
    """What a structured output is described by."""

    JSON_SCHEMA = "json"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    JSON_OBJECT = "json_object"
    # Of our own making alone: it holds an answer to calls of tools.
    STRUCTURAL_TAG = "structural_tag"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A shape that the answer is forced into; ``choices`` only for CHOICE, ``text`` for the rest."""

    kind: ConstraintKind
    text: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen, every default filled in; temperature 0 is greedy, top_k 0 is off.

    With ``ignore_eos`` an answer goes on behind the model's own end; ``logit_bias`` is by token id.  Of ``n`` answers
    number i draws with ``seed`` + i.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    min_p: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    n: int = 1
    bad_words: tuple[str, ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """A verified adapter as engines address it.

    ``engine_id`` is unique for the life of the process (never reused, never a hash);
    ``name`` is ``MODEL@sha256:…``; ``folder`` is absolute and immutable while loaded.
    """

    engine_id: int
    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Job:
    """One generation: prompt tokens, how to go on, with which weights, in whose cache.

    ``background``: it gives way to jobs that are not.
    """

    request_id: str
    token_ids: Sequence[int]
    sampling: Sampling
    constraint: Constraint | None
    adapter: EngineAdapter | None
    cache_salt: str
    background: bool = False


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural log probability of a token, with the likeliest alternatives."""

    token_id: int
    text: str
    logprob: float
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Attestation:
    """What the engine's worker saw: the slot that multiplied the rows and its occupant.

    ``slot`` is BASE_SLOT and ``version`` empty when no adapter touched any row.
    ``violation`` is not empty when two steps disagreed.  ``base_digest`` is of the folder that the worker read.
    """

    slot: int
    version: str
    steps: int
    violation: str
    base_digest: str


@dataclass(frozen=True, slots=True)
class Piece:
    """More of answer number ``choice``; its last one has ``finish``; not ``finite`` when no numbers stand behind it."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...]
    finish: Finish | None
    cached_tokens: int
    attestation: Attestation | None
    choice: int = 0
    finite: bool = True
    calls: tuple[CallDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine is, fixed from its construction."""

    name: str
    build: str
    base: str
    base_digest: str
    slots: int
    max_rank: int
    context_tokens: int


class EngineLost(Exception):
    """The engine died; whatever it ran is gone.  It must be stopped and started again."""


class EngineRefused(Exception):
    """The engine is well and will not do this: a constraint it cannot compile, an adapter it cannot load."""


class Engine(Protocol):
    """A loaded base model that generates, with slots for adapters."""

    @property
    def facts(self) -> EngineFacts:
        """What this engine is."""
        ...

    @property
    def alive(self) -> bool:
        """False before start, after stop, and from the moment its death is known."""
        ...

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes that it runs in, without their children; empty while it does not run."""
        ...

    async def start(self) -> None:
        """Load the base; tens of seconds.  May be called again after stop.  Raises EngineLost."""
        ...

    async def stop(self) -> None:
        """End the engine's processes; what is in flight is lost."""
        ...

    async def death(self) -> None:
        """Return once a started engine is known to be dead."""
        ...

    def generate(self, job: Job) -> AsyncGenerator[Piece]:
        """Run one job.  Closing the iterator aborts it.  Raises EngineLost, EngineRefused."""
        ...

    async def lift(self, adapter: EngineAdapter) -> int:
        """Read an adapter's file into host memory beside the running steps; the bytes it takes there.

        Raises EngineLost, EngineRefused.
        """
        ...

    async def load(self, adapter: EngineAdapter) -> None:
        """Copy an adapter into a free slot, from host memory if it was lifted: that memory is then the slot's.

        Raises EngineLost, EngineRefused.
        """
        ...

    async def lower(self, adapter: EngineAdapter) -> int:
        """Free and zero the adapter's slot and keep it lifted; the bytes it takes in host memory.

        The caller knows that no job uses it.  Raises EngineLost, EngineRefused.
        """
        ...

    async def unload(self, adapter: EngineAdapter) -> None:
        """Free and zero the adapter's slot and let it go; the caller knows that no job uses it."""
        ...

    async def drop(self, adapter: EngineAdapter) -> None:
        """Give back the host memory of a lifted adapter; nothing when there is none."""
        ...

    async def resident(self) -> frozenset[int]:
        """Engine ids of the loaded adapters, asked of the engine itself."""
        ...

    async def lifted(self) -> Mapping[int, int]:
        """Engine ids of the adapters in host memory and no slot, with their bytes, asked of the engine itself."""
        ...


class Tokenizer(Protocol):
    """The base's tokenizer and chat template; works while the engine is down.  Blocks: run in a thread."""

    @property
    def template_digest(self) -> str:
        """Digest (sha256:…) of the chat template."""
        ...

    @property
    def template(self) -> str:
        """The chat template; empty when there is none."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many token ids there are."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The special tokens' texts by the names that templates call them."""
        ...

    def written(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """A conversation through the chat template, up to where the assistant speaks next.  Raises Unrenderable."""
        ...

    def rendered(self, text: str) -> list[int]:
        """Token ids of what a chat template wrote: every special token of the prompt stands in it."""
        ...

    def text(self, text: str) -> list[int]:
        """Token ids of a text as it is."""
        ...
