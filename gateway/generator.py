"""The generator as the gateway uses it: what goes to it, what is known of its engines, and its verbs."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from gateway.generation import Generated, Message, Opening, Prompt, Sampling, Shape, SourceSpan, TextDelta, ToolUse


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What goes to the generator.

    ``version`` is a digest, empty for the base alone: the generator never hears an alias.  What has the same ``affinity``
    begins alike and does well to go to the same replica; the generator does not hear it either.
    """

    prompt: Prompt
    request_id: str
    version: str = ""
    base: str = ""
    requested_model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    shape: Shape | None = None
    sources: tuple[SourceSpan, ...] = ()
    affinity: str = ""
    tools: ToolUse | None = None


@dataclass(frozen=True, slots=True)
class PromptSize:
    """Tokens of a prompt under the model's own tokenizer, and the window that prompt and answer share."""

    tokens: int
    context_tokens: int


class EngineState(Enum):
    """Whether an engine takes requests."""

    UNSPECIFIED = "unspecified"
    STOPPED = "stopped"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine and the base that it serves; ``model`` is the caller's own that this is, empty for the deployment's."""

    engine: str
    state: EngineState
    base: str
    base_digest: str
    model: str = ""


class Generator(Protocol):
    """The generator as the gateway uses it.  Every method raises Failure; an unreachable one names itself."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        """Stream an answer.  Closing the iterator aborts the work."""

    async def size(self, messages: Sequence[Message], base: str, version: str) -> PromptSize:
        """Count the tokens of a conversation exactly as ``generate`` would build it."""

    async def prepare(self, version: str) -> None:
        """Load a version; returns when it can serve.  Loading what is loaded costs nothing."""

    async def engines(self) -> list[Engine]:
        """List the engines."""

    async def resident_versions(self) -> frozenset[str]:
        """Versions of the caller's tenant that an engine holds in memory or in a slot."""
