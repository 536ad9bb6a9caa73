"""Puts the reading of sources together: what the deployment opens, the queue, its readers, the verbs.

Invariant: settings that cannot be used stop the start; the readers end before what they write to is closed.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.chassis import tasks
from services.chassis.database import Database
from services.chassis.errors import Failure, Unstartable
from services.chassis.runtime import Runtime
from services.retriever.config import RetrieverSettings
from services.retriever.documents.intake import Intake
from services.retriever.documents.removal import Removal
from services.retriever.sources import addresses, buckets
from services.retriever.sources.addresses import Policy
from services.retriever.sources.buckets import Buckets
from services.retriever.sources.fetching import Bounds, Fetcher
from services.retriever.sources.objects import SourceObjects
from services.retriever.sources.places import Places
from services.retriever.sources.queue import SourceQueue, Work
from services.retriever.sources.sources import Sources
from services.retriever.sources.sourcing import SourceTools, Sourcing


@asynccontextmanager
async def open_sources(
    runtime: Runtime, settings: RetrieverSettings, database: Database, intake: Intake, removal: Removal
) -> AsyncIterator[Sources]:
    """Read what is due, from what was left in the queue on.  Raises Unstartable."""

    def now() -> float:
        return runtime.clock.now().timestamp()

    places = Places(
        fetcher=Fetcher(
            _policy(settings),
            Bounds(settings.max_document_bytes, settings.source_seconds, settings.source_connect_seconds),
        ),
        buckets=Buckets(
            buckets.grants(settings.buckets.get_secret_value(), settings.buckets_file),
            settings.max_document_bytes,
            settings.source_seconds,
        ),
    )
    queue = SourceQueue(database, now, settings.retry_seconds)
    await queue.recover()
    sourcing = Sourcing(
        SourceTools(
            queue=queue,
            objects=SourceObjects(database),
            places=places,
            intake=intake,
            removal=removal,
            retry_seconds=settings.retry_seconds,
            report=_reporter(runtime),
        )
    )
    readers = [runtime.spawn(sourcing.run(), f"sources-{number}") for number in range(settings.source_readers)]
    try:
        yield Sources(database, places, now, runtime.new_id, sourcing.wake, sourcing.stop)
    finally:
        await tasks.end(*readers)


def _policy(settings: RetrieverSettings) -> Policy:
    try:
        return Policy(
            hosts=tuple(item.strip().lower() for item in settings.source_hosts.split(",") if item.strip()),
            networks=addresses.networks(settings.source_networks),
            ports=frozenset(int(item) for item in settings.source_ports.split(",") if item.strip()),
        )
    except ValueError as error:
        raise Unstartable(
            f"{addresses.NETWORKS_SETTING} or {addresses.PORTS_SETTING} cannot be used: {error}"
        ) from None


def _reporter(runtime: Runtime) -> Callable[[str, Work, Exception | None], None]:
    """What writes down how a reading ended; its URI is a tenant's own text and stays out of the log."""
    outcomes = runtime.metrics.counter("trivium_retriever_source_outcomes", "Readings by outcome.", ("outcome",))

    def report(outcome: str, work: Work, error: Exception | None) -> None:
        outcomes.labels(outcome).inc()
        told = {"tenant_id": work.tenant, "source_number": work.number, "reading": work.reading}
        if error is None or isinstance(error, Failure):
            runtime.log.info(outcome, **told, reason=error.reason.name if isinstance(error, Failure) else "")
        else:
            runtime.log.error(outcome, **told, exc_info=error)

    return report
