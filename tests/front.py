"""The gateway as a real process over a retriever and a service of files, without an engine, and a client at its two doors."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import responses_pb2_grpc, vector_stores_pb2_grpc

from tests.filing import Filing, Keeper
from tests.harness.gateway import NOBODY, PATIENT, Gateway
from tests.library import Library
from tests.stack import RECONNECTS, Api, Stack


class Front:
    """A gateway process.  It shares access with a stack, and has the retriever and the files of who gives them."""

    def __init__(self, data: Path, stack: Stack, library: Library, filing: Filing, generator: str = NOBODY) -> None:
        self.stack = stack
        self.filing = filing
        self.process = Gateway(
            data,
            stack.access,
            {
                "TRIVIUM_RETRIEVER_ADDRESS": library.process.address,
                "TRIVIUM_EMBEDDER_ADDRESS": library.embedder_address,
                "TRIVIUM_FILES_ADDRESS": filing.process.address,
                "TRIVIUM_GENERATOR_ADDRESS": generator,
                "TRIVIUM_REGISTRY_ADDRESS": stack.registry.address,
            },
            prelude=PATIENT,
        ).start()
        self.http = f"{self.process.http}/v1"
        self._channel = grpc.insecure_channel(self.process.address, RECONNECTS)

    def close(self) -> None:
        """End it."""
        self._channel.close()
        self.process.stop()

    def newcomer(self) -> "Visitor":
        """Somebody in a tenant of their own."""
        tenant = self.stack.tenant()
        key = self.stack.tenant_key(tenant)
        stores = Api(vector_stores_pb2_grpc.VectorStoreServiceStub(self._channel), key)
        responses = Api(responses_pb2_grpc.ResponseServiceStub(self._channel), key)
        return Visitor(key, stores, responses, self.filing.keeper(key, tenant), self.http)


class Visitor:
    """The gateway in somebody's hands, by gRPC (``stores``, ``responses``) and by HTTP."""

    def __init__(self, key: str, stores: Api, responses: Api, keeper: Keeper, http: str) -> None:
        self.key = key
        self.stores = stores
        self.responses = responses
        self.keeper = keeper
        self._http = http
        # Where the server is, without the API's own beginning.
        self.address = http.removesuffix("/v1")

    def file(self, content: str | bytes, filename: str = "") -> str:
        """Store a file; its id."""
        name = filename or f"{uuid.uuid4().hex[:8]}.md"
        return self.keeper.upload(
            content.encode() if isinstance(content, str) else content, name, purpose=file_pb2.PURPOSE_ASSISTANTS
        ).file

    def holding(self, credential: str) -> "Visitor":
        """Another visitor of the HTTP door, with a credential of its own."""
        return Visitor(credential, self.stores, self.responses, self.keeper, self._http)

    def ask(self, verb: str, path: str, body: Any = None, *, own_id: str = "", **query: str) -> httpx.Response:
        """One request by HTTP, under an id of the caller's own where there is one."""
        named = {"x-trivium-request-id": own_id} if own_id else {}
        headers: Mapping[str, str] = {"authorization": f"Bearer {self.key}", **named}
        return httpx.request(verb, self._http + path, json=body, params=query, headers=headers, timeout=60)
