"""Serves access: ``python -m services.access``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.access.v1 import access_pb2_grpc, audit_pb2_grpc, quota_pb2_grpc, usage_pb2_grpc, user_pb2_grpc

from services.access.config import AccessSettings
from services.access.servicer import AccessServicer
from services.access.servicer_audit import AUDIT_SERVICE, AuditServicer
from services.access.servicer_metering import (
    QUOTA_SERVICE,
    USAGE_SERVICE,
    QuotaServicer,
    UsageServicer,
)
from services.access.servicer_users import USER_SERVICE, UserServicer
from services.access.verbs import open_verbs
from services.access.wire import answer_of
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run

SERVICE = "trivium.access.v1.AccessService"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the leaves of access and hang its servicer over them."""
    async with open_verbs(runtime, answer_of) as verbs:
        add = access_pb2_grpc.add_AccessServiceServicer_to_server
        quotas, usage, users = QuotaServicer(verbs), UsageServicer(verbs), UserServicer(verbs)
        yield [
            Registration(add, AccessServicer(verbs), SERVICE),
            Registration(quota_pb2_grpc.add_QuotaServiceServicer_to_server, quotas, QUOTA_SERVICE),
            Registration(usage_pb2_grpc.add_UsageServiceServicer_to_server, usage, USAGE_SERVICE),
            Registration(audit_pb2_grpc.add_AuditServiceServicer_to_server, AuditServicer(verbs), AUDIT_SERVICE),
            Registration(user_pb2_grpc.add_UserServiceServicer_to_server, users, USER_SERVICE),
        ]


if __name__ == "__main__":
    run(AccessSettings(), name="access", build=build)
