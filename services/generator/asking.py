"""What is asked of the generator and what comes back: plain values, no behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.generator.engine import Attestation, Constraint, Finish, Logprob, Sampling, Turn


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt given as tokens."""

    ids: tuple[int, ...]


Prompt = Sequence[Turn] | str | TokenIds


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: turns, a text, or token ids; ``version`` empty for the base; seed None to draw one."""

    prompt: Prompt
    version: str
    base: str
    sampling: Sampling
    seed: int | None
    constraint: Constraint | None
    request_id: str
    requested_model: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of an answer: the prompt was read, and everything that determines what follows is known.

    ``version`` is the adapter that the engine attested, or the full model whose folder it attested; empty for a base.
    """

    prompt_tokens: int
    cached_tokens: int
    request_id: str
    requested_model: str
    resolved_model: str
    version: str
    engine: str
    engine_build: str
    base_digest: str
    template_digest: str
    prompt_tokens_digest: str
    attestation: Attestation
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class More:
    """More of answer number ``choice``."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...]
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Wall time of one stage, and the size of its input in tokens where it has one."""

    name: str
    seconds: float
    input_size: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one answer of a request."""

    finish: Finish
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a request whose answers had begun, by number; its opening as the engine last attested it."""

    opening: Opening
    choices: tuple[Ended, ...]
    stages: tuple[Stage, ...]

    @property
    def finish(self) -> Finish:
        """Why the first answer ended."""
        return self.choices[0].finish

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(choice.completion_tokens for choice in self.choices)
