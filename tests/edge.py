"""The edge alone: real access, gateways as processes of their own, and a generator without an engine."""

from collections.abc import Mapping
from pathlib import Path

import grpc
from trivium.access.v1 import access_pb2, access_pb2_grpc

from tests import simulated_generator
from tests.harness.gateway import Gateway
from tests.stack import RECONNECTS, Api, Process


class Edge:
    """Access, a simulated generator and gateways over one folder.  ``environment`` and ``prelude`` are the gateways'."""

    def __init__(
        self, data: Path, *, token_ms: float = 0.0, environment: Mapping[str, str] | None = None, prelude: str = ""
    ) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self.access = Process("access", data, {"TRIVIUM_DRAIN_SECONDS": "1"}).start()
        self.access.keep_port()
        self.generator, self.generator_address = simulated_generator.start(token_ms)
        self._settings = {"TRIVIUM_GENERATOR_ADDRESS": self.generator_address, **(environment or {})}
        self._prelude = prelude
        self._gateways: list[Gateway] = []
        self._channels: dict[int, grpc.Channel] = {}

    def gateway(self) -> Gateway:
        """One more gateway, with a folder of its own."""
        folder = self.data / f"gateway-{len(self._gateways)}"
        started = Gateway(folder, self.access, self._settings, prelude=self._prelude)
        self._gateways.append(started)
        return started.start()

    def access_api(self, credential: str) -> Api:
        """Access as it runs now, as the holder of a credential.

        A connection to an access service that was killed may not have noticed yet: its next call would fail.
        """
        if self.access.pid not in self._channels:
            options = [("grpc.use_local_subchannel_pool", 1), *RECONNECTS]
            self._channels[self.access.pid] = grpc.insecure_channel(self.access.address, options)
        return Api(access_pb2_grpc.AccessServiceStub(self._channels[self.access.pid]), credential)

    @property
    def admin(self) -> Api:
        """Access, as an admin."""
        return self.access_api((self.data / "keys" / "admin.key").read_text().strip())

    def tenant_key(self, tenant: str, quota: access_pb2.Quota | None = None) -> str:
        """A new tenant, limited where a quota is given; the text of a key in it."""
        self.admin.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant))
        if quota is not None:
            self.admin.UpdateQuota(access_pb2.UpdateQuotaRequest(tenant=tenant, quota=quota))
        roles = [access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER]
        return str(self.admin.CreateKey(access_pb2.CreateKeyRequest(tenant=tenant, roles=roles)).api_key)

    def close(self) -> None:
        """End all."""
        for gateway in self._gateways:
            gateway.stop()
        for channel in self._channels.values():
            channel.close()
        self.generator.kill()
        self.generator.wait()
        self.access.stop()
