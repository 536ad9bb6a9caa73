"""No RPC of the gateway's is without a case that runs over both of its doors."""

import re
from pathlib import Path

from trivium.gateway.v1 import (
    batches_pb2,
    embeddings_pb2,
    files_pb2,
    fine_tuning_pb2,
    gateway_pb2,
    models_pb2,
    replays_pb2,
    responses_pb2,
    vector_stores_pb2,
)

import tests.conformance

_FILES = (
    batches_pb2,
    embeddings_pb2,
    files_pb2,
    fine_tuning_pb2,
    gateway_pb2,
    models_pb2,
    replays_pb2,
    responses_pb2,
    vector_stores_pb2,
)


def test_every_rpc_is_called_by_a_skin() -> None:
    package = Path(str(tests.conformance.__file__)).parent
    skins = "".join(path.read_text() for path in package.glob("*_skins.py"))
    rpcs = [rpc for file in _FILES for service in file.DESCRIPTOR.services_by_name.values() for rpc in service.methods]
    assert {file.name for file in Path(str(gateway_pb2.__file__)).parent.glob("*_pb2.py")} == {
        Path(str(file.__file__)).name for file in _FILES
    }
    assert len(rpcs) > 40
    # As a stub's method, or by its name.
    uncalled = [rpc.name for rpc in rpcs if not re.search(rf"[.\"]{rpc.name}\b", skins)]
    assert uncalled == []
