from collections.abc import Iterator

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.embedder.v1 import embedder_pb2_grpc

from tests.stack import Api, Process


class EmbedderStack:
    """Access and an embedder with the real model."""

    def __init__(self, data):
        quick = {"TRIVIUM_DRAIN_SECONDS": "1"}
        # Nothing to try out at the start: test_models.py and the retriever's tests have embedders that do.
        settled = {"TRIVIUM_EMBEDDER_PRECISION": "float32", "TRIVIUM_EMBEDDER_BATCH_TOKENS": "2048"}
        self.data = data
        self.access = Process("access", data, quick).start()
        self.embedder = Process(
            "embedder", data, {**quick, **settled, "TRIVIUM_ACCESS_ADDRESS": self.access.address}
        ).start()
        self._channels = [grpc.insecure_channel(it.address) for it in (self.access, self.embedder)]

    def key(self, name="admin"):
        return (self.data / "keys" / f"{name}.key").read_text().strip()

    def api(self, credential="") -> Api:
        return Api(embedder_pb2_grpc.EmbedderServiceStub(self._channels[1]), credential)

    def reader_key(self) -> str:
        access = Api(access_pb2_grpc.AccessServiceStub(self._channels[0]), self.key())
        request = access_pb2.CreateKeyRequest(tenant="default", roles=[access_pb2.ROLE_READER])
        return str(access.CreateKey(request).api_key)

    def close(self):
        for channel in self._channels:
            channel.close()
        self.embedder.stop()
        self.access.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[EmbedderStack]:
    made = EmbedderStack(tmp_path_factory.mktemp("embedder"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def embedder(stack: EmbedderStack) -> Api:
    return stack.api(stack.reader_key())
