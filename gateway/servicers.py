"""The gateway's gRPC services by name, one field each: what both skins call."""

from dataclasses import dataclass

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
from services.chassis.server import Registration


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
            Registration(
                gateway_pb2_grpc.add_GatewayServiceServicer_to_server,
                self.gateway,
                "trivium.gateway.v1.GatewayService",
            ),
            Registration(
                files_pb2_grpc.add_FileServiceServicer_to_server, self.files, "trivium.gateway.v1.FileService"
            ),
            Registration(
                batches_pb2_grpc.add_BatchServiceServicer_to_server, self.batches, "trivium.gateway.v1.BatchService"
            ),
            Registration(
                vector_stores_pb2_grpc.add_VectorStoreServiceServicer_to_server,
                self.vector_stores,
                "trivium.gateway.v1.VectorStoreService",
            ),
            Registration(
                fine_tuning_pb2_grpc.add_FineTuningServiceServicer_to_server,
                self.fine_tuning,
                "trivium.gateway.v1.FineTuningService",
            ),
            Registration(
                embeddings_pb2_grpc.add_EmbeddingServiceServicer_to_server,
                self.embeddings,
                "trivium.gateway.v1.EmbeddingService",
            ),
            Registration(
                responses_pb2_grpc.add_ResponseServiceServicer_to_server,
                self.responses,
                "trivium.gateway.v1.ResponseService",
            ),
            Registration(
                replays_pb2_grpc.add_ReplayServiceServicer_to_server, self.replays, "trivium.gateway.v1.ReplayService"
            ),
            Registration(
                models_pb2_grpc.add_ModelServiceServicer_to_server, self.models, "trivium.gateway.v1.ModelService"
            ),
        ]
