"""The SDK for ordinary code: the asynchronous one, driven on an event loop in a thread of its own.

Invariant: no call is implemented here or in the faces; each hands over to its asynchronous
twin, so the two cannot differ.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from trivium_client import answers
from trivium_client.administration_faces import Keys, Tenants
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.connection import Connection
from trivium_client.document_faces import Collections, Documents
from trivium_client.job_faces import Jobs, Recipes, Sweeps
from trivium_client.loop import Loop
from trivium_client.model_face import Models
from trivium_client.source_face import Sources
from trivium_client.training_faces import Datasets


class Trivium:
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
        self._loop = Loop()
        # A channel belongs to the loop that it was made on.
        self._inner = self._loop.run(_made(api_key, addresses, data_dir))
        self.connection: Connection = self._inner.connection
        self.collections = Collections(self._loop, self._inner)
        self.docs = Documents(self._loop, self._inner)
        self.sources = Sources(self._loop, self._inner)
        self.data = Datasets(self._loop, self._inner)
        self.jobs = Jobs(self._loop, self._inner)
        self.sweeps = Sweeps(self._loop, self._inner)
        self.recipes = Recipes(self._loop, self._inner)
        self.models = Models(self._loop, self._inner)
        self.keys = Keys(self._loop, self._inner)
        self.tenants = Tenants(self._loop, self._inner)

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

    def ask(self, question: str, **options: Any) -> Iterator[answers.Part]:
        """See `AsyncTrivium.ask`."""
        return self._loop.iterate(self._inner.ask(question, **options))

    def chat(self, messages: Iterable[answers.Message], **options: Any) -> Iterator[answers.Part]:
        """See `AsyncTrivium.chat`."""
        return self._loop.iterate(self._inner.chat(messages, **options))

    def complete(self, prompt: str, **options: Any) -> Iterator[answers.Part]:
        """See `AsyncTrivium.complete`."""
        return self._loop.iterate(self._inner.complete(prompt, **options))

    def answer(self, question: str, **options: Any) -> answers.Answer:
        """`ask`, whole."""
        return self._loop.run(self._inner.answer(question, **options))

    def reply(self, messages: Iterable[answers.Message], **options: Any) -> answers.Answer:
        """`chat`, whole."""
        return self._loop.run(self._inner.reply(messages, **options))

    def continuation(self, prompt: str, **options: Any) -> answers.Answer:
        """`complete`, whole."""
        return self._loop.run(self._inner.continuation(prompt, **options))

    def receipt(self, request_id: str) -> answers.Receipt:
        """See `AsyncTrivium.receipt`."""
        return self._loop.run(self._inner.receipt(request_id))


async def _made(api_key: str | None, addresses: Mapping[str, str] | None, data_dir: str | Path | None) -> AsyncTrivium:
    return AsyncTrivium(api_key=api_key, addresses=addresses, data_dir=data_dir)
