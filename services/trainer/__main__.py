"""Serves the trainer: `python -m services.trainer`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.trainer.v1 import dataset_pb2_grpc, training_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.chassis.sole_process import sole_process
from services.trainer.composition import open_verbs
from services.trainer.config import TrainerSettings
from services.trainer.peers import RegistryBases, RegistryPublisher
from services.trainer.servicer import DatasetServicer, TrainingServicer


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the trainer's leaves and hang its servicers over them."""
    with sole_process(runtime.settings.service_dir, "trainer"):
        async with open_verbs(runtime, RegistryPublisher(runtime), RegistryBases(runtime)) as verbs:
            yield [
                Registration(
                    dataset_pb2_grpc.add_DatasetServiceServicer_to_server,
                    DatasetServicer(verbs),
                    "trivium.trainer.v1.DatasetService",
                ),
                Registration(
                    training_pb2_grpc.add_TrainingServiceServicer_to_server,
                    TrainingServicer(verbs, runtime),
                    "trivium.trainer.v1.TrainingService",
                ),
            ]


if __name__ == "__main__":
    run(TrainerSettings(), name="trainer", build=build)
