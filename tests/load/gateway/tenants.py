"""Tenants beside the one that a suite begins with."""

from typing import Any

import grpc
from trivium.access.v1 import access_pb2, access_pb2_grpc

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import metadata


def key_of(suite: Suite, tenant: str) -> str:
    """Make the tenant; a key of it."""
    with grpc.insecure_channel(suite.addresses["access"]) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        call: dict[str, Any] = {"metadata": metadata(suite.api_key), "timeout": 30}
        stub.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant), **call)
        request = access_pb2.CreateKeyRequest(tenant=tenant, roles=[access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER])
        return str(stub.CreateKey(request, **call).api_key)
