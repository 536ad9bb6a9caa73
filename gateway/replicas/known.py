"""What one generator last said of itself, and what of that is still true.

Invariant: a list that was begun anew (the stream was lost) replaces the old one as a whole
once it is complete, so that what left meanwhile is not believed for ever.
"""

from dataclasses import dataclass

from gateway.generator import EngineState
from gateway.replicas.choice import Nearness


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """An engine: its base by name and digest, the full model's version that it serves if any, and answers there."""

    state: EngineState
    base: str
    base_digest: str
    version: str
    answers: int


class Known:
    """One replica's adapters and engines, with the answers that were sent there since it last spoke."""

    def __init__(self) -> None:
        self.reachable = True
        self.outstanding = 0
        self._told_outstanding = 0
        self._nearness: dict[str, Nearness] = {}
        self._engines: dict[str, EngineLoad] = {}
        self._fresh: tuple[dict[str, Nearness], dict[str, EngineLoad]] | None = None

    def begin(self) -> None:
        """What follows is a list from the beginning."""
        self._fresh = {}, {}

    def adapter(self, version: str, nearness: Nearness) -> None:
        """A version is this near now."""
        adapters = self._nearness if self._fresh is None else self._fresh[0]
        if nearness is Nearness.REMOTE:
            adapters.pop(version, None)
        else:
            adapters[version] = nearness

    def engine(self, name: str, load: EngineLoad) -> None:
        """An engine is so now."""
        (self._engines if self._fresh is None else self._fresh[1])[name] = load
        self._told_outstanding = self.outstanding

    def state(self, name: str) -> EngineState | None:
        """What an engine last was; None for one that is not known."""
        load = self._engines.get(name)
        return None if load is None else load.state

    def caught_up(self) -> None:
        """The list from the beginning is complete."""
        if self._fresh is not None:
            self._nearness, self._engines = self._fresh
            self._fresh = None
        self.reachable = True

    def lost(self) -> None:
        """It cannot be reached: nothing is sent there while another one can."""
        self._fresh = None
        self.reachable = False

    @property
    def load(self) -> float:
        """Answers that run or wait there, about: what it told, and what we sent and got since."""
        told = sum(engine.answers for engine in self._engines.values())
        return max(0.0, told + self.outstanding - self._told_outstanding)

    @property
    def takes_requests(self) -> bool:
        """Whether it takes anything new.  One that has said nothing yet may."""
        engines = self._engines.values()
        draining = all(engine.state is EngineState.DRAINING for engine in engines)
        return self.reachable and not (engines and draining)

    def nearness(self, version: str, base: str) -> Nearness:
        """How near a version is, or without one a base by name or digest; empty means the default base."""
        if version in self._nearness:
            return self._nearness[version]
        for engine in self._engines.values():
            wanted = engine.version == version if version else base in ("", engine.base, engine.base_digest)
            if wanted and engine.state is EngineState.READY:
                return Nearness.SLOT
        return Nearness.REMOTE
