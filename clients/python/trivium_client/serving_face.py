"""The synchronous twin of `serving`; part of `synchronous`."""

from collections.abc import Sequence

from trivium_client import nouns
from trivium_client.loop import Loop
from trivium_client.serving import Serving


class ServingFace:
    """See `trivium_client.serving.Serving`."""

    _loop: Loop
    _inner: Serving

    def served(self) -> Sequence[nouns.ServedModel]:
        """Every name that `model` accepts now."""
        return self._loop.run(self._inner.served())

    def route(self, model: str, *, sticky_key: str = "") -> nouns.Route:
        """Where a request that names `model` would go now, for whom."""
        return self._loop.run(self._inner.route(model, sticky_key=sticky_key))

    def engines(self) -> Sequence[nouns.Engine]:
        """The generator's engines."""
        return self._loop.run(self._inner.engines())

    def resident(self) -> Sequence[nouns.Adapter]:
        """The tenant's adapters that the generator holds."""
        return self._loop.run(self._inner.resident())

    def tiers(self) -> Sequence[nouns.TierUsage]:
        """What the tenant's adapters take of the generator's slots, host memory and files."""
        return self._loop.run(self._inner.tiers())

    def load(self, version: str) -> nouns.Adapter:
        """Have the generator fetch, verify and load a version."""
        return self._loop.run(self._inner.load(version))

    def unload(self, version: str) -> None:
        """Have the generator take a version out of its slot."""
        self._loop.run(self._inner.unload(version))

    def protect(self, version: str, *, protected: bool = True) -> nouns.Adapter:
        """Load a version into the generator and protect it there from making room for others, or end that."""
        return self._loop.run(self._inner.protect(version, protected=protected))
