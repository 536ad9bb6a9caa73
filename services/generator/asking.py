"""What is asked of the generator and what comes back: plain values, no behaviour."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.chassis.errors import Failure, Reason
from services.generator.conversation import CallDelta, Turn
from services.generator.engine import Attestation, Constraint, Finish, Logprob, Sampling
from services.generator.tools import CallForm, ToolUse


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt given as tokens."""

    ids: tuple[int, ...]


Prompt = Sequence[Turn] | str | TokenIds


def tokens_digest(token_ids: Sequence[int]) -> str:
    """Digest (sha256:…) of the ids packed as little-endian int32."""
    return f"sha256:{hashlib.sha256(struct.pack(f'<{len(token_ids)}i', *token_ids)).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: turns, a text, or token ids; ``version`` empty for the base; seed None to draw one.

    ``tools`` only beside turns.  ``background``: nobody waits for the answer.  ``weight`` is that of whose request it is.
    """

    prompt: Prompt
    version: str
    base: str
    sampling: Sampling
    seed: int | None
    constraint: Constraint | None
    request_id: str
    requested_model: str
    tools: ToolUse | None = None
    background: bool = False
    # On the monotonic clock, in seconds; None where nobody states one.
    deadline: float | None = None
    weight: int = 1

    def held_to(self, form: CallForm) -> Ask:
        """The request with its answer held to the calls that it asks for.  Raises FIELD_INVALID.

        Calls stand between special tokens in some forms, so the text keeps those.
        """
        assert self.tools is not None
        if self.constraint is not None:
            problem = "cannot stand beside tools that may be called: a call has a shape of its own"
            raise Failure(Reason.FIELD_INVALID, field="structured_output", problem=problem)
        sampling = replace(self.sampling, skip_special_tokens=False)
        return replace(self, constraint=form.constraint(self.tools), sampling=sampling)


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
    """More of answer number ``choice``: text, and parts of calls that its tokens made."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[Logprob, ...]
    choice: int = 0
    calls: tuple[CallDelta, ...] = ()


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
    """The end of a request whose answers had begun, by number; its opening as the engine last attested it.

    ``completion_digest`` (sha256:…) is of the token ids of all answers, one after another by number.
    """

    opening: Opening
    choices: tuple[Ended, ...]
    stages: tuple[Stage, ...]
    completion_digest: str = ""

    @property
    def finish(self) -> Finish:
        """Why the first answer ended."""
        return self.choices[0].finish

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(choice.completion_tokens for choice in self.choices)
