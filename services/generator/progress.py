"""What is known of one request while it is answered: its answers so far, and where its time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.generator.asking import Done, Ended, Opening, Stage, tokens_digest
from services.generator.attestation import attested
from services.generator.engine import Attestation, Finish, Piece


@dataclass(slots=True)
class _Answer:
    """What is known of one answer so far."""

    token_ids: list[int] = field(default_factory=list)
    finish: Finish | None = None
    told: Attestation | None = None


@dataclass(slots=True)
class Progress:
    """What is known of a request's answers so far; no opening before the engine has read the prompt."""

    answers: list[_Answer]
    opening: Opening | None = None

    @classmethod
    def of(cls, answers: int) -> Progress:
        """Of a request for so many answers, of which nothing is known yet."""
        return cls([_Answer() for _ in range(answers)])

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(len(answer.token_ids) for answer in self.answers)

    def take(self, piece: Piece, told: Attestation) -> Opening:
        """Take a piece of an opened answer in; the opening as it is known by then."""
        assert self.opening is not None
        # The first answer's: the others find in the cache what it has just put there.
        cached_tokens = self.opening.cached_tokens if piece.choice else piece.cached_tokens
        self.opening = replace(self.opening, attestation=told, cached_tokens=cached_tokens)
        answer = self.answers[piece.choice]
        answer.token_ids.extend(piece.token_ids)
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
        ended = (Ended(answer.finish or Finish.ABORT, len(answer.token_ids)) for answer in self.answers)
        made = [token_id for answer in self.answers for token_id in answer.token_ids]
        return Done(self.opening, tuple(ended), tuple(stages), tokens_digest(made))


class Watch:
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
