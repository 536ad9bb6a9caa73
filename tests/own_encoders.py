"""An embedder that has a registry to have tenants' own models from, a retriever over it, and people who publish some."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.registry.v1 import model_pb2, registry_pb2

from services.chassis.status import from_rpc_error
from tests.encoder_files import EncoderFiles
from tests.library import Library, Reader
from tests.stack import RECONNECTS, Api, Process, Stack, User, eventually, peer_settings
from tests.tiny_encoder import build_encoder

BELIEVED_SECONDS = 0.5


class Encoders:
    """The two services over a stack's access and registry; the default model is a tiny one."""

    def __init__(self, stack: Stack, data: Path, environment: Mapping[str, str] | None = None) -> None:
        self.stack = stack
        settings = {
            **peer_settings(stack.access),
            "TRIVIUM_REGISTRY_ADDRESS": stack.registry.address,
            "TRIVIUM_EMBEDDER_TENANT_MODELS_BELIEVED_SECONDS": str(BELIEVED_SECONDS),
            "TRIVIUM_EMBEDDING_MODEL": f"file:{build_encoder(data / 'tiny')}",
            "TRIVIUM_MODEL_CACHE_DIR": str(data / "models"),
            "TRIVIUM_EMBEDDER_THREADS": "1",
            # Nothing to try out at the start.
            "TRIVIUM_EMBEDDER_PRECISION": "float32",
            "TRIVIUM_EMBEDDER_BATCH_TOKENS": "2048",
            **(environment or {}),
        }
        self.embedder = Process("embedder", data, settings).start()
        self.embedder.keep_port()
        self._channel = grpc.insecure_channel(self.embedder.address, RECONNECTS)
        self.library = Library(stack, data, self.embedder.address)

    def close(self) -> None:
        """End both."""
        self._channel.close()
        self.library.close()
        self.embedder.stop()

    def restart_embedder(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Kill -9 it, start it again at the same address."""
        self.embedder.kill()
        meanwhile()
        self.embedder.start()

        def reached() -> bool:
            try:
                self.embedder_api("").ListEmbeddingModels(embedder_pb2.ListEmbeddingModelsRequest())
            except grpc.RpcError as error:
                return from_rpc_error(error).reason == "CREDENTIAL_MISSING"
            return False

        # Our own connection learns that its other end is gone when it is next used.
        eventually(reached, "the embedder answers after its restart")

    def embedder_api(self, credential: str) -> Api:
        """The embedder, as the holder of a credential."""
        return Api(embedder_pb2_grpc.EmbedderServiceStub(self._channel), credential)

    def newcomer(self) -> "Person":
        """Somebody in a tenant of their own, with an empty collection."""
        tenant = self.stack.tenant()
        key = self.stack.tenant_key(tenant)
        reader = Reader(self.library.api(key), tenant)
        reader.create(reader.collection)
        return Person(tenant, User(self.stack.registry_api(key), tenant), reader, self.embedder_api(key))


@dataclass(frozen=True)
class Person:
    """A tenant with what is theirs in the registry, the retriever and the embedder."""

    tenant: str
    registry: User
    reader: Reader
    embedder: Api

    def publish(self, model: str, seed: int, architecture: str = "BertModel") -> model_pb2.Version:
        """A tiny encoder as the next version of a model."""
        return published(self.registry, model, seed, architecture)

    def delete(self, version: model_pb2.Version) -> None:
        """Delete a version; it can be restored."""
        self.registry.api.DeleteVersion(registry_pb2.DeleteVersionRequest(model=version.model, version=version.version))

    def restore(self, version: model_pb2.Version) -> None:
        """Bring it back."""
        self.registry.api.RestoreVersion(
            registry_pb2.RestoreVersionRequest(model=version.model, version=version.version)
        )


def published(user: User, model: str, seed: int, architecture: str = "BertModel") -> model_pb2.Version:
    """A tiny encoder as the next version of somebody's model."""
    files = EncoderFiles(architecture, seed=seed).files()
    kind = model_pb2.VERSION_KIND_ENCODER
    version: model_pb2.Version = user.publish(model, files, kind=kind, base_digest="")
    return version
