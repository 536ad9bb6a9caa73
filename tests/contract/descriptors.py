"""The contracts as descriptors, with every option, as the services read them."""

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

_STUBS = Path(__file__).parents[2] / "clients" / "python"


def method_of(service: str, name: str) -> MethodDescriptor:
    """One RPC.  Raises KeyError where there is none."""
    _load()
    found: MethodDescriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return found


def every_method() -> Iterator[MethodDescriptor]:
    """Every RPC of Trivium's own services."""
    for module in _load():
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


@cache
def _load() -> list[Any]:
    """The modules of the stubs."""
    importlib.import_module("grpc_health.v1.health_pb2")
    paths = sorted(_STUBS.glob("trivium/*/v1/*_pb2.py"))
    return [importlib.import_module(".".join(path.relative_to(_STUBS).with_suffix("").parts)) for path in paths]
