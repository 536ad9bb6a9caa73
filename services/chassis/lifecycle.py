"""The parts of a server's life that ``server.py`` puts in order: assemble, open, drain."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.chassis import process_identity, tls
from services.chassis.access import AccessClient
from services.chassis.auditing.remote import RemoteEventLog
from services.chassis.auditing.trail import Trail
from services.chassis.channels import Channels
from services.chassis.config import ServiceSettings
from services.chassis.credentials import AssertionVerifier, Authenticator, CachingAuthenticator
from services.chassis.executor import Executor
from services.chassis.files import write_atomically
from services.chassis.health import Health
from services.chassis.interceptors import Layers, layers
from services.chassis.interceptors.call import MethodPolicy
from services.chassis.interceptors.dispatch import Dispatcher, MethodCollector, empty_request
from services.chassis.logs import Log
from services.chassis.revocations import Revocations
from services.chassis.runtime import Background, Runtime, new_id
from services.chassis.telemetry import MetricsEndpoint, Telemetry

_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# After the last call has been answered: time for its bytes to leave.
_FLUSH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Registration:
    """A servicer, the generated function that adds it, and how long its methods may take."""

    add_to_server: Callable[[Any, Any], None]
    servicer: object
    service: str
    policies: Mapping[str, MethodPolicy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that accepts calls, with its real addresses."""

    runtime: Runtime
    layers: Layers
    listen: str
    admin_listen: str
    metrics_listen: str
    main: grpc.aio.Server
    admin: grpc.aio.Server
    metrics: MetricsEndpoint


def server_options(settings: ServiceSettings) -> list[tuple[str, Any]]:
    """Options of every listening server."""
    return [
        # On by default, it lets a second process take the same port in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Clients ping every 30 s; anything under this would earn them a GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Connections end now and then, so that clients see new replicas.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60 * 60_000),
    ]


@asynccontextmanager
async def assembled(
    settings: ServiceSettings, name: str, authenticator: Authenticator | None, log: Log
) -> AsyncIterator[Runtime]:
    """Everything that a service is built from; closed in reverse when the service is gone."""
    settings.service_dir.mkdir(parents=True, exist_ok=True)
    telemetry = Telemetry(settings, name)
    telemetry.start_tracing()
    channels = Channels(settings)
    access = AccessClient(channels.plain("access"), settings.service_key_file, log)
    executor = Executor(settings.blocking_threads, name=f"{name}-blocking")
    authenticator = authenticator or _remote(access, settings)
    trail = Trail(settings.service_dir / "audit", new_id(), log)
    try:
        async with Background(log) as background:
            yield Runtime(
                name=name,
                settings=settings,
                log=log,
                metrics=telemetry,
                health=Health(telemetry, log),
                channels=channels,
                access=access,
                trail=trail,
                layers=layers(settings, telemetry, log, authenticator, trail),
                executor=executor,
                background=background,
            )
    finally:
        await channels.close()
        await asyncio.to_thread(executor.close)
        await asyncio.to_thread(telemetry.stop_tracing)


def _remote(access: AccessClient, settings: ServiceSettings) -> Authenticator:
    return CachingAuthenticator(
        AssertionVerifier(access.signing_keys),
        access.exchange,
        key_cache_seconds=settings.key_cache_seconds,
        revocations=Revocations(access.revoked_principals),
    )


async def open_servers(runtime: Runtime, registrations: list[Registration]) -> Serving:
    """Listen: the services behind the layers, health beside them, introspection on the admin port."""
    settings = runtime.settings
    around = runtime.layers
    dispatcher = Dispatcher(around.ordered, around.recording)
    main = grpc.aio.server(options=server_options(settings))
    admin = grpc.aio.server(options=server_options(settings))
    for registration in registrations:
        main.add_generic_rpc_handlers((_wrapped(registration, dispatcher),))
    if dispatcher.records:
        events = RemoteEventLog(runtime.channel("access"), runtime.as_service)
        runtime.spawn(runtime.trail.run(events), name="audit")
    for method in dispatcher.methods:
        around.validation.warm(empty_request(method))
    names = [registration.service for registration in registrations]
    await runtime.health.host(names)
    for server in (main, admin):
        health_pb2_grpc.add_HealthServicer_to_server(runtime.health.servicer, server)
    reflection.enable_server_reflection([*names, _HEALTH_SERVICE, reflection.SERVICE_NAME], admin)
    channelz.add_channelz_servicer(admin)
    listen = tls.bind(main, settings.listen, settings)
    admin_listen = tls.bind(admin, settings.admin_listen, settings)
    metrics = runtime.metrics.serve_metrics(settings.metrics_listen, settings)
    await admin.start()
    await main.start()
    return Serving(runtime, around, listen, admin_listen, metrics.address, main, admin, metrics)


def _wrapped(registration: Registration, dispatcher: Dispatcher) -> grpc.GenericRpcHandler:
    collector = MethodCollector()
    registration.add_to_server(registration.servicer, collector)
    return dispatcher.handlers(registration.service, collector.methods[registration.service], registration.policies)


async def drain(server: Serving) -> None:
    """NOT_SERVING; wait for load balancers; refuse new calls; let old ones finish; stop."""
    settings = server.runtime.settings
    await server.runtime.health.drain()
    await asyncio.sleep(settings.drain_notice_seconds)
    server.runtime.draining.set()
    server.layers.admission.drain()
    if not await server.layers.admission.emptied(settings.drain_seconds):
        server.layers.admission.end()
        await server.layers.admission.emptied(_FLUSH_SECONDS)
    await server.main.stop(_FLUSH_SECONDS)
    await server.admin.stop(0)
    await asyncio.to_thread(server.metrics.close)


def write_run_file(server: Serving) -> None:
    """Tell whoever supervises where this process listens."""
    facts: dict[str, object] = {
        "pid": os.getpid(),
        "process": process_identity.own(),
        "listen": server.listen,
        "admin_listen": server.admin_listen,
        "metrics_listen": server.metrics_listen,
        **server.runtime.announced,
    }
    path: Path = server.runtime.settings.run_file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(facts).encode())
