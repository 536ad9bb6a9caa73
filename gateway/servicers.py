"""The gateway's gRPC services by name, one field each: what both transports call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from trivium.gateway.v1 import (
    batches_pb2_grpc,
    embeddings_pb2_grpc,
    files_pb2_grpc,
    fine_tuning_pb2_grpc,
    gateway_pb2_grpc,
    models_pb2_grpc,
    replays_pb2_grpc,
    responses_pb2_grpc,
    vector_stores_pb2_grpc,
)

from gateway.batches.servicer import BatchServicer
from gateway.embeddings.servicer import EmbeddingServicer
from gateway.files.servicer import FileServicer
from gateway.fine_tuning.servicer import FineTuningServicer
from gateway.models.servicer import ModelServicer
from gateway.replaying.servicer import ReplayServicer
from gateway.responses.servicer import ResponseServicer
from gateway.servicer import GatewayServicer
from gateway.vector_stores.servicer import VectorStoreServicer
from services.chassis.interceptors.call import MethodPolicy
from services.chassis.server import Registration

_PACKAGE = "trivium.gateway.v1"
# What takes as long as there is to compute or to carry: as a generation at the generator.
_LONG = MethodPolicy(default_seconds=600.0, max_seconds=3600.0)
# By service; whatever is not here has the deployment's time for its kind.  Of both doors.
POLICIES: Mapping[str, Mapping[str, MethodPolicy]] = {
    f"{_PACKAGE}.EmbeddingService": {"CreateEmbeddings": _LONG},
    f"{_PACKAGE}.FineTuningService": {"CreateFineTuningJob": _LONG},
    f"{_PACKAGE}.ReplayService": {"ReplayAnswer": _LONG},
    f"{_PACKAGE}.VectorStoreService": {
        "CreateVectorStore": _LONG,
        "CreateVectorStoreFile": _LONG,
        "CreateVectorStoreFileBatch": _LONG,
    },
}
_OWN_KIND = MethodPolicy()


def policy_of(rpc: MethodDescriptor) -> MethodPolicy:
    """How long an RPC of the gateway may take."""
    return POLICIES.get(rpc.containing_service.full_name, {}).get(rpc.name, _OWN_KIND)


@dataclass(frozen=True, slots=True)
class Servicers:
    """One servicer a service of ``trivium.gateway.v1``; its registration stands beside it in :meth:`registrations`."""

    gateway: GatewayServicer
    files: FileServicer
    batches: BatchServicer
    vector_stores: VectorStoreServicer
    fine_tuning: FineTuningServicer
    embeddings: EmbeddingServicer
    responses: ResponseServicer
    replays: ReplayServicer
    models: ModelServicer

    def registrations(self) -> list[Registration]:
        """Every service, as the server hangs it up."""
        return [
            _hung(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, self.gateway, "GatewayService"),
            _hung(files_pb2_grpc.add_FileServiceServicer_to_server, self.files, "FileService"),
            _hung(batches_pb2_grpc.add_BatchServiceServicer_to_server, self.batches, "BatchService"),
            _hung(
                vector_stores_pb2_grpc.add_VectorStoreServiceServicer_to_server,
                self.vector_stores,
                "VectorStoreService",
            ),
            _hung(fine_tuning_pb2_grpc.add_FineTuningServiceServicer_to_server, self.fine_tuning, "FineTuningService"),
            _hung(embeddings_pb2_grpc.add_EmbeddingServiceServicer_to_server, self.embeddings, "EmbeddingService"),
            _hung(responses_pb2_grpc.add_ResponseServiceServicer_to_server, self.responses, "ResponseService"),
            _hung(replays_pb2_grpc.add_ReplayServiceServicer_to_server, self.replays, "ReplayService"),
            _hung(models_pb2_grpc.add_ModelServiceServicer_to_server, self.models, "ModelService"),
        ]


def _hung(add_to_server: Callable[[Any, Any], None], servicer: object, name: str) -> Registration:
    service = f"{_PACKAGE}.{name}"
    return Registration(add_to_server, servicer, service, POLICIES.get(service, {}))
