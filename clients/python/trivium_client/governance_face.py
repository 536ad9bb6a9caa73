"""The synchronous twin of `governance`; part of `synchronous`."""

from collections.abc import Iterator
from typing import Any

from trivium_client import governance_nouns, nouns
from trivium_client.governance import Governance
from trivium_client.loop import Loop


class GovernanceFace:
    """See `trivium_client.governance.Governance`."""

    _loop: Loop
    _inner: Governance

    def update(self, model: str, **changes: Any) -> nouns.Model:
        """Change what is said of a model and which versions are kept."""
        return self._loop.run(self._inner.update(model, **changes))

    def tag(self, version: str, **changes: Any) -> nouns.Version:
        """Add and remove tags of a version."""
        return self._loop.run(self._inner.tag(version, **changes))

    def evaluate(self, version: str, metric: str, value: float, **options: Any) -> nouns.Evaluation:
        """Record a measurement of a version."""
        return self._loop.run(self._inner.evaluate(version, metric, value, **options))

    def search(self, text: str = "", **conditions: Any) -> Iterator[governance_nouns.FoundVersion]:
        """Versions of all models that meet every condition."""
        return self._loop.iterate(self._inner.search(text, **conditions))

    def family(self, version: str, *, model: str = "") -> governance_nouns.Family:
        """Everything that a version was made from, and everything that was made from it."""
        return self._loop.run(self._inner.family(version, model=model))

    def set_canary(self, model: str, version: str, percent: int, **options: Any) -> nouns.Alias:
        """Send a share of an alias's requests to a version, 0 ends it."""
        return self._loop.run(self._inner.set_canary(model, version, percent, **options))

    def create_gate(self, model: str, gate: governance_nouns.Gate) -> governance_nouns.Gate:
        """Store a condition that versions must meet before an alias takes them."""
        return self._loop.run(self._inner.create_gate(model, gate))

    def gates(self, model: str) -> Iterator[governance_nouns.Gate]:
        """A model's gates, by id."""
        return self._loop.iterate(self._inner.gates(model))

    def delete_gate(self, model: str, gate: str) -> None:
        """Delete a gate."""
        self._loop.run(self._inner.delete_gate(model, gate))

    def delete(self, model: str, *, purge: bool = False, force: bool = False, reason: str = "") -> None:
        """Delete a model with its versions."""
        self._loop.run(self._inner.delete(model, purge=purge, force=force, reason=reason))

    def delete_version(
        self, version: str, *, model: str, purge: bool = False, force: bool = False, reason: str = ""
    ) -> None:
        """Delete a version."""
        self._loop.run(self._inner.delete_version(version, model=model, purge=purge, force=force, reason=reason))

    def restore(self, model: str, *, reason: str = "") -> nouns.Model:
        """Bring back a deleted model, with the versions that went with it."""
        return self._loop.run(self._inner.restore(model, reason=reason))

    def restore_version(self, version: str, *, model: str = "", reason: str = "") -> nouns.Version:
        """Bring back a deleted version."""
        return self._loop.run(self._inner.restore_version(version, model=model, reason=reason))

    def changes(self, model: str) -> Iterator[governance_nouns.ModelChange]:
        """What was deleted, restored and purged under a model's name, newest first."""
        return self._loop.iterate(self._inner.changes(model))
