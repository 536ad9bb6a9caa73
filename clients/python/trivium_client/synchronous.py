"""The SDK for ordinary code: the asynchronous one, driven on an event loop in a thread of its own.

Invariant: no call is implemented or even declared here or in `faces`; each is made of its asynchronous twin, so the two
cannot differ.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from trivium_client.asynchronous import AsyncTrivium
from trivium_client.connection import Connection
from trivium_client.faces import (
    Audit,
    Batches,
    Collections,
    Datasets,
    Documents,
    Files,
    Jobs,
    Keys,
    Models,
    Policies,
    Projects,
    Quotas,
    Recipes,
    Sources,
    Sweeps,
    Tenants,
    Usages,
    Users,
)
from trivium_client.loop import Loop
from trivium_client.twins import Face, awaited, iterated


class Trivium(Face[AsyncTrivium]):
    """One constructor that reads the environment; `with` closes the channels.

    `addresses` maps service names to host:port, `data_dir` is a local suite's folder; see
    `Connection.settled` for what is read when they are not given.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        addresses: Mapping[str, str] | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        self._closed = False
        loop = Loop()
        # A channel belongs to the loop that it was made on.
        super().__init__(loop, loop.run(_made(api_key, addresses, data_dir)))
        self.connection: Connection = self._inner.connection
        self.collections = Collections(self._loop, self._inner.collections)
        self.docs = Documents(self._loop, self._inner.docs)
        self.sources = Sources(self._loop, self._inner.sources)
        self.data = Datasets(self._loop, self._inner.data)
        self.jobs = Jobs(self._loop, self._inner.jobs)
        self.sweeps = Sweeps(self._loop, self._inner.sweeps)
        self.recipes = Recipes(self._loop, self._inner.recipes)
        self.models = Models(self._loop, self._inner.models)
        self.files = Files(self._loop, self._inner.files)
        self.batches = Batches(self._loop, self._inner.batches)
        self.keys = Keys(self._loop, self._inner.keys)
        self.audit = Audit(self._loop, self._inner.audit)
        self.projects = Projects(self._loop, self._inner.projects)
        self.policies = Policies(self._loop, self._inner.policies)
        self.quotas = Quotas(self._loop, self._inner.quotas)
        self.users = Users(self._loop, self._inner.users)
        self.usage = Usages(self._loop, self._inner.usage)
        self.tenants = Tenants(self._loop, self._inner.tenants)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            self._loop.run(self._inner.close())
        finally:
            self._loop.stop()

    ask = iterated(AsyncTrivium.ask)
    chat = iterated(AsyncTrivium.chat)
    complete = iterated(AsyncTrivium.complete)
    answer = awaited(AsyncTrivium.answer)
    reply = awaited(AsyncTrivium.reply)
    continuation = awaited(AsyncTrivium.continuation)
    receipt = awaited(AsyncTrivium.receipt)
    replay = awaited(AsyncTrivium.replay)


async def _made(api_key: str | None, addresses: Mapping[str, str] | None, data_dir: str | Path | None) -> AsyncTrivium:
    return AsyncTrivium(api_key=api_key, addresses=addresses, data_dir=data_dir)
