"""The contracts as descriptors, with every option, as the services read them."""

import importlib
from functools import cache
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

_STUBS = Path(__file__).parents[2] / "clients" / "python"


def method_of(service: str, name: str) -> MethodDescriptor:
    """One RPC.  Raises KeyError where there is none."""
    _load()
    found: MethodDescriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return found


@cache
def _load() -> None:
    importlib.import_module("grpc_health.v1.health_pb2")
    for path in sorted(_STUBS.glob("trivium/*/v1/*_pb2.py")):
        importlib.import_module(".".join(path.relative_to(_STUBS).with_suffix("").parts))
