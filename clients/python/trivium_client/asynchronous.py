"""The SDK for asyncio: every call is a coroutine, every page and stream an async iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from trivium.gateway.v1 import gateway_pb2 as pb
from trivium.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from trivium.gateway.v1.replays_pb2_grpc import ReplayServiceStub

from trivium_client import answers, answers_wire, asking_wire, replays
from trivium_client.administration import Keys, Projects, Tenants, Users
from trivium_client.auditing import Audit
from trivium_client.batches import Batches
from trivium_client.connection import Connection
from trivium_client.documents import Collections, Documents
from trivium_client.files import Files
from trivium_client.jobs import Jobs
from trivium_client.metering import Usages
from trivium_client.models import Models
from trivium_client.policies import Policies
from trivium_client.quotas import Quotas
from trivium_client.sources import Sources
from trivium_client.sweeps import Recipes, Sweeps
from trivium_client.training import Datasets
from trivium_client.transport import Transport, new_request_id
from trivium_client.twins import gathered

if TYPE_CHECKING:
    from trivium.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub
    from trivium.gateway.v1.replays_pb2_grpc import ReplayServiceAsyncStub


class AsyncTrivium:
    """One constructor that reads the environment; `async with` closes the channels.

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
        self.connection = Connection.settled(addresses, api_key, data_dir)
        self._transport = Transport(self.connection)
        self.collections = Collections(self._transport)
        self.docs = Documents(self._transport)
        self.sources = Sources(self._transport)
        self.data = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.sweeps = Sweeps(self._transport)
        self.recipes = Recipes(self._transport)
        self.models = Models(self._transport)
        self.files = Files(self._transport)
        self.batches = Batches(self._transport)
        self.keys = Keys(self._transport)
        self.audit = Audit(self._transport)
        self.projects = Projects(self._transport)
        self.policies = Policies(self._transport)
        self.quotas = Quotas(self._transport)
        self.users = Users(self._transport)
        self.usage = Usages(self._transport)
        self.tenants = Tenants(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every channel."""
        await self._transport.close()

    def _stub(self) -> GatewayServiceAsyncStub:
        stub: GatewayServiceAsyncStub = self._transport.stub("gateway", GatewayServiceStub)
        return stub

    async def ask(
        self,
        question: str,
        *,
        model: str = "base",
        collections: str | Sequence[str] = (),
        history: Iterable[answers.Message] = (),
        top_k: int = 0,
        sampling: answers.Sampling | None = None,
        json_schema: str | None = None,
        shape: answers.Shape | None = None,
        instructions: str = "",
        asking: answers.Asking | None = None,
        request_id: str = "",
        sticky_key: str = "",
        fallback: str = "",
    ) -> AsyncIterator[answers.Part]:
        """Answer from sources: `Sources` first, then `Text`s, then one `Final`.

        `top_k` 0 takes the server's default; `asking` says how sources are used, and what of it is told; `json_schema` is
        short for a `shape` of that; `sticky_key` is whoever is to stay with one version of a model that is tried out,
        without one it is your key.  `fallback` names the model that answers where this one cannot, before that which the
        model's owner says; none: none does.  Raises NotFoundError for an unknown model or collection, with the nearest
        names, and InvalidRequestError for an empty question.
        """
        request = pb.AskRequest(
            model=model,
            question=question,
            collections=[collections] if isinstance(collections, str) else collections,
            history=answers_wire.messages_to_wire(history),
            top_k=top_k,
            sampling=answers_wire.sampling_to_wire(sampling),
            structured_output=answers_wire.shape_to_wire(shape, json_schema),
            request_id=request_id or new_request_id(),
            instructions=instructions,
            sticky_key=sticky_key,
            fallback=fallback,
            **asking_wire.fields(asking),
        )
        async for message in self._transport.stream("gateway", self._stub().Ask, request):
            yield answers_wire.part(message)

    async def chat(
        self,
        messages: Iterable[answers.Message],
        *,
        model: str = "base",
        sampling: answers.Sampling | None = None,
        json_schema: str | None = None,
        shape: answers.Shape | None = None,
        request_id: str = "",
        sticky_key: str = "",
        fallback: str = "",
    ) -> AsyncIterator[answers.Part]:
        """Answer a conversation: `Text`s, then one `Final`.  Options as in `ask`."""
        request = pb.ChatRequest(
            model=model,
            messages=answers_wire.messages_to_wire(messages),
            sampling=answers_wire.sampling_to_wire(sampling),
            structured_output=answers_wire.shape_to_wire(shape, json_schema),
            request_id=request_id or new_request_id(),
            sticky_key=sticky_key,
            fallback=fallback,
        )
        async for message in self._transport.stream("gateway", self._stub().Chat, request):
            yield answers_wire.part(message)

    async def complete(
        self,
        prompt: str | Sequence[int] | Sequence[str | Sequence[int]],
        *,
        model: str = "base",
        sampling: answers.Sampling | None = None,
        shape: answers.Shape | None = None,
        request_id: str = "",
        sticky_key: str = "",
        fallback: str = "",
    ) -> AsyncIterator[answers.Part]:
        """Continue a text, or token ids, without a chat template: `Text`s, then one `Final`.  Options as in `ask`.

        Of a list of prompts, up to 128, each is continued: answer j to prompt i is the choice i * n + j.
        """
        request = pb.CompleteRequest(
            model=model,
            **answers_wire.prompts_to_wire(prompt),
            sampling=answers_wire.sampling_to_wire(sampling),
            structured_output=answers_wire.shape_to_wire(shape, None),
            request_id=request_id or new_request_id(),
            sticky_key=sticky_key,
            fallback=fallback,
        )
        async for message in self._transport.stream("gateway", self._stub().Complete, request):
            yield answers_wire.part(message)

    answer = gathered(ask, "answer")
    reply = gathered(chat, "reply")
    continuation = gathered(complete, "continuation")

    async def receipt(self, request_id: str) -> answers.Receipt:
        """The receipt of an earlier request.  Raises NotFoundError."""
        request = pb.GetReceiptRequest(request_id=request_id)
        response = await self._transport.call("gateway", self._stub().GetReceipt, request)
        return answers_wire.receipt(response.receipt)

    async def replay(
        self,
        request_id: str,
        request: Mapping[str, Any] | None = None,
        *,
        answer: str | None = None,
        rewritten_question: str = "",
    ) -> replays.Replay:
        """Compute an earlier answer again, and say whether it is what the weights of its receipt say.

        `request` is what was sent, as JSON has it: with `messages` a ChatRequest, with `prompt` or `prompts` a
        CompleteRequest, with `question` an AskRequest of the API reference; roles may be in short.  Without it the
        request is found where it is stored: as a response, which `request_id` may name itself, or as a line of a batch
        whose input file is there.
        `answer` is its text, all of it, by default that of the stored response; without it only the digest of its tokens
        is compared.  `rewritten_question` is what the answer's `rewrite` says.  Raises NotFoundError for a request without
        a receipt, PreconditionError for one that is not stored, ValueError for a request that is none.
        """
        message = replays.to_wire(request_id, request, answer, rewritten_question)
        stub: ReplayServiceAsyncStub = self._transport.stub("gateway", ReplayServiceStub)
        return replays.of_wire(await self._transport.call("gateway", stub.ReplayAnswer, message))
