"""All verbs of the registry over opened leaves: the one place that knows how they hang together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.blobs import open_blobs
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure
from services.chassis.models import ModelSettings
from services.chassis.notices import heard
from services.chassis.runtime import Runtime
from services.registry.alias_view import AliasView, FlipPolicy
from services.registry.aliases import Aliases
from services.registry.annotations import Annotations
from services.registry.bases import ResolvedBases
from services.registry.canaries import Canaries
from services.registry.candidates import Candidates
from services.registry.config import RegistrySettings
from services.registry.deletion import Deletion
from services.registry.downloads import Downloads
from services.registry.events import CHANNEL, EventFeed, KeptEvents, compact
from services.registry.garbage import Garbage
from services.registry.gate_keeping import Gates
from services.registry.holds import Holds
from services.registry.importing import Importing
from services.registry.leases import Leases, holder_of
from services.registry.lineage import LineageReader
from services.registry.lives import FORGOTTEN_SECONDS, forget_silent
from services.registry.making import Making
from services.registry.merges import Merges
from services.registry.models import Models
from services.registry.publishing import Publishing
from services.registry.resolution import Resolver
from services.registry.retention import RetentionSweep
from services.registry.search import Search
from services.registry.uploads import UploadLimits, Uploads
from services.registry.versions import Versions
from services.registry.works import Works


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the registry can do."""

    models: Models
    versions: Versions
    publishing: Publishing
    checks: Works
    importing: Importing
    merges: Merges
    uploads: Uploads
    downloads: Downloads
    aliases: Aliases
    canaries: Canaries
    gates: Gates
    annotations: Annotations
    search: Search
    lineage: LineageReader
    deletion: Deletion
    resolver: Resolver
    candidates: Candidates
    feed: EventFeed


@asynccontextmanager
async def open_verbs(runtime: Runtime) -> AsyncIterator[Verbs]:
    """Open database and blobs, start the sweep, close all in reverse."""
    settings = runtime.settings
    assert isinstance(settings, RegistrySettings)
    names = [name.strip() for name in settings.bases.split(",") if name.strip()]
    bases = ResolvedBases(names or [ModelSettings().base_model])
    blobs = open_blobs(settings.blobs_url, settings.service_dir / "blobs")

    def now() -> float:
        return runtime.clock.now().timestamp()

    async with (
        open_database(settings.database_url, "services.registry.migrations", turn="registry") as database,
        _leased_works(settings, database) as works,
        _leased_works(settings, database) as checks,
    ):
        versions = Versions(database, now)
        limits = UploadLimits(settings.max_blob_bytes, settings.max_staged_bytes_per_tenant)
        uploads = Uploads(database, blobs, settings.service_dir / "blobs" / "staging", limits, now)
        making = Making.over(settings, blobs, uploads, versions, bases, works)
        await asyncio.to_thread(making.merges.discard_remains)
        runtime.spawn(_resolve(runtime, bases), "resolve-bases")
        view = AliasView(now, FlipPolicy(settings.min_ready, settings.generator_ttl_seconds))
        canaries = Canaries(database, view)
        holds = Holds(now, settings.generator_ttl_seconds)
        deletion = Deletion(database, now, holds, settings.deletion_grace_seconds)
        kept = KeptEvents(settings.keep_events, settings.keep_events_seconds)
        feed = EventFeed(database, settings.sign_of_life_seconds)
        works.tell(feed.wake)
        checks.tell(feed.wake)
        if not database.is_sqlite:
            runtime.spawn(_hear_replicas(database, feed), "hear-replicas")
        sweep = Sweep(
            garbage=Garbage(database, blobs, uploads, settings.unused_upload_seconds, now),
            retention=RetentionSweep(database, now, holds, deletion),
            deletion=deletion,
            compact=lambda: compact(database, kept, now()),
            forget=lambda: database.write(lambda session: forget_silent(session, now() - FORGOTTEN_SECONDS)),
            discard=lambda: making.discard_remains(now() - settings.unused_upload_seconds),
            wake=feed.wake,
        )
        runtime.spawn(_sweep(runtime, sweep, settings.sweep_seconds), "sweep")
        yield Verbs(
            models=Models(database, now),
            versions=versions,
            publishing=making.publishing,
            checks=checks,
            importing=making.importing,
            merges=making.merges,
            uploads=uploads,
            downloads=Downloads(database, blobs),
            aliases=Aliases(database, view, canaries),
            canaries=canaries,
            gates=Gates(database, now),
            annotations=Annotations(database, now),
            search=Search(database),
            lineage=LineageReader(database),
            deletion=deletion,
            resolver=Resolver(database, bases),
            candidates=Candidates(database),
            feed=feed,
        )


def _leased_works(settings: RegistrySettings, database: Database) -> Works:
    return Works(settings.patience_seconds, Leases(database, holder_of(settings.service_dir), settings.lease_seconds))


async def _hear_replicas(database: Database, feed: EventFeed) -> None:
    """Wake our watchers for what other replicas wrote."""
    async for _ in heard(database, CHANNEL):
        feed.wake()


async def _resolve(runtime: Runtime, bases: ResolvedBases) -> None:
    """Learn the bases beside serving; where they cannot be prepared, the generator alone refuses."""
    try:
        await runtime.blocking(bases.resolve)
    except Failure as failure:
        runtime.log.warning("base_unknown", reason=failure.reason.name, problem=failure.sentence)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is cleared every so often, in the order in which one makes room for the next."""

    garbage: Garbage
    retention: RetentionSweep
    deletion: Deletion
    compact: Callable[[], Awaitable[int]]
    forget: Callable[[], Awaitable[int]]
    discard: Callable[[], None]
    wake: Callable[[], None]

    async def run(self) -> dict[str, int]:
        """Clear once; returns how much of each kind went.  Raises OSError, Failure."""
        retired = await self.retention.run()
        purged = await self.deletion.purge_due()
        events, lives = await self.compact(), await self.forget()
        self.wake()
        await asyncio.to_thread(self.discard)
        blobs = await self.garbage.sweep()
        return {"retired": retired, "purged": purged, "events": events, "lives": lives, "blobs": blobs}


async def _sweep(runtime: Runtime, sweep: Sweep, every_seconds: float) -> None:
    """Clear what nobody needs, now and every so often.

    Neither a full disk nor a database that is away for a moment may stop the service: the next sweep goes on.
    """
    while True:
        try:
            runtime.log.info("swept", **await sweep.run())
        except (OSError, Failure) as error:
            runtime.log.warning("sweep_failed", exc_info=error)
        await asyncio.sleep(every_seconds)
