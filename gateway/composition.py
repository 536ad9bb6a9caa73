"""The core put together over its peers, once a process."""

from typing import cast

from gateway.answering import Answerer
from gateway.asking.asker import Asker
from gateway.auto.choosing import Chooser
from gateway.batches.servicer import BatchServicer
from gateway.chat import Chatter
from gateway.config import GatewaySettings
from gateway.embeddings.embedding import Embeddings
from gateway.embeddings.servicer import EmbeddingServicer
from gateway.files.deletion import Deletion
from gateway.files.servicer import FileServicer
from gateway.fine_tuning.materials import Materials
from gateway.fine_tuning.results import Results
from gateway.fine_tuning.servicer import FineTuningServicer
from gateway.fine_tuning.tuner import Tuner
from gateway.http import lines
from gateway.limits.accounts import Accounts
from gateway.limits.fair_share import FairShare
from gateway.limits.gate import Gate
from gateway.models.naming import Naming
from gateway.models.servicer import ModelServicer
from gateway.peers.access import RemoteLedger
from gateway.peers.allowances import RemoteAllowances
from gateway.peers.archive import RemoteArchive
from gateway.peers.batch_lines import RemoteLines
from gateway.peers.batches import RemoteBatches
from gateway.peers.embedder import RemoteMeanings, RemoteVectors
from gateway.peers.embeddings import RemoteEmbedder
from gateway.peers.file_contents import RemoteFileContents
from gateway.peers.files import RemoteFiles
from gateway.peers.generator import RemoteGenerator
from gateway.peers.judges import RemoteJudges
from gateway.peers.library import RemoteLibrary
from gateway.peers.pool import Pool, several
from gateway.peers.registry import RemoteRegistry
from gateway.peers.replicas import ReplicatedGenerator
from gateway.peers.retriever import RemoteRetriever
from gateway.peers.source_texts import RemoteSourceTexts
from gateway.peers.spool import FolderSpool
from gateway.peers.trainer import RemoteDatasets, RemoteTrainer
from gateway.peers.training_files import RemoteTrainingFiles
from gateway.peers.under_way import MappedUnderWay
from gateway.policy.policing import Policing
from gateway.receipts import Recorder
from gateway.replaying.generating import Generating
from gateway.replaying.keeping import Keeping
from gateway.replaying.replayer import Replayer
from gateway.replaying.servicer import ReplayServicer
from gateway.replicas.hedging import Hedging, HedgingLimits
from gateway.responses.counting import Counting
from gateway.responses.responder import Responder
from gateway.responses.servicer import ResponseServicer
from gateway.routing import Router
from gateway.servicer import GatewayServicer
from gateway.servicers import Servicers
from gateway.under_way import keep
from gateway.vector_stores.filing import Filing
from gateway.vector_stores.servicer import VectorStoreServicer
from gateway.vector_stores.stores import Stores
from services.chassis.runtime import Runtime


def compose(runtime: Runtime) -> Servicers:
    """Return the servicers of both transports; receipts that could not be recorded are recorded in the background."""
    generator = _generator(runtime)
    ledger = RemoteLedger(runtime.channel("access"), runtime.as_service)
    spool = FolderSpool(runtime.settings.service_dir / "receipts", runtime.new_id)
    recorder = Recorder(ledger, spool, runtime.log)
    runtime.spawn(recorder.run(), name="receipts")
    under_way = MappedUnderWay(runtime.settings.service_dir / "under-way", runtime.log)
    runtime.spawn(keep(under_way, recorder), name="answers under way")
    registry = RemoteRegistry(runtime.channel("registry"))
    chooser = Chooser(registry, RemoteMeanings(runtime.channel("embedder")), runtime.blocking)
    router = Router(registry, generator, chooser)
    policing = _policing(runtime)
    answerer = Answerer(generator, recorder, router, policing, under_way)
    clock = runtime.clock.monotonic

    def now() -> float:
        return runtime.clock.now().timestamp()

    asker = Asker(
        router,
        RemoteRetriever(runtime.channel("retriever")),
        generator,
        RemoteVectors(runtime.channel("embedder")),
        answerer,
        clock,
        now,
        runtime.new_id,
        runtime.metrics.stage_span,
    )
    chatter = Chatter(router, answerer, clock, runtime.new_id, runtime.metrics.stage_span)
    kept = RemoteFiles(runtime.channel("files"))
    files = FileServicer(kept, Deletion(kept, RemoteLibrary(runtime.channel("retriever"))))
    embedder = RemoteEmbedder(runtime.channel("embedder"))
    embeddings = Embeddings(embedder, recorder, now, runtime.new_id)
    naming = Naming(registry, generator, embedder, chooser)
    # One that knows no router never falls back: other weights' words are no replay.
    generating = Generating(Answerer(generator, recorder), clock, runtime.new_id, policing)
    texts = RemoteSourceTexts(runtime.channel("retriever"))
    gate = _gate(runtime)
    return Servicers(
        GatewayServicer(asker, chatter, router, naming, ledger, gate),
        files,
        BatchServicer(RemoteBatches(runtime.channel("files"))),
        vector_stores(runtime, gate),
        FineTuningServicer(_tuner(runtime)),
        EmbeddingServicer(embeddings, gate),
        responses(runtime, asker, chatter, router, generator, gate),
        ReplayServicer(Replayer(ledger, registry, generator, texts, generating, _keeping(runtime)), gate),
        ModelServicer(naming),
    )


def _keeping(runtime: Runtime) -> Keeping:
    """What finds a request again by its id, at the service of files; a batch's lines are bodies of the HTTP door."""
    files = runtime.channel("files")
    return Keeping(RemoteArchive(files), RemoteLines(files), lines.read)


def _gate(runtime: Runtime) -> Gate:
    """The limits, and the background that leases them."""
    settings, clock = cast("GatewaySettings", runtime.settings), runtime.clock.monotonic
    allowances = RemoteAllowances(runtime.channel("access"), runtime.new_id(), runtime.as_service)
    accounts = Accounts(allowances, runtime.log, clock)
    runtime.spawn(accounts.run(), name="allowances")
    return Gate(accounts, FairShare(settings.generation_places), clock)


def _policing(runtime: Runtime) -> Policing:
    """Content policies, and the channels to their servers."""
    judges = RemoteJudges(runtime.settings)
    runtime.spawn(judges.run(), name="content policies")
    return Policing(judges, runtime.log)


def _generator(runtime: Runtime) -> RemoteGenerator | ReplicatedGenerator:
    """The one generator, or several of which each request goes to the one that suits it."""
    address = runtime.settings.address("generator")
    if not several(address):
        return RemoteGenerator(runtime.channel("generator"))
    clock, connect = runtime.clock.monotonic, runtime.channels.alone
    pool = Pool(address, connect, runtime.as_service, runtime.spawn, clock, runtime.log)
    runtime.spawn(pool.run(), name="replicas")
    settings = cast("GatewaySettings", runtime.settings)
    limits = HedgingLimits(settings.hedge_quantile, settings.hedge_floor_seconds, settings.hedge_share)
    hedges = runtime.metrics.counter(
        "trivium_gateway_hedges", "Requests whose first replica was silent for too long, by outcome.", ("outcome",)
    )
    return ReplicatedGenerator(pool, Hedging(limits), clock, lambda outcome: hedges.labels(outcome).inc())


def vector_stores(runtime: Runtime, gate: Gate) -> VectorStoreServicer:
    """Vector stores over the retriever and the service of files."""
    library = RemoteLibrary(runtime.channel("retriever"))
    filing = Filing(library, RemoteFileContents(runtime.channel("files")))
    return VectorStoreServicer(Stores(library, filing, runtime.new_id), filing, gate)


def _tuner(runtime: Runtime) -> Tuner:
    trainer = RemoteTrainer(runtime.channel("trainer"))
    files = RemoteTrainingFiles(runtime.channel("files"))
    materials = Materials(files, RemoteDatasets(runtime.channel("trainer")))
    registry = RemoteRegistry(runtime.channel("registry"))
    return Tuner(trainer, materials, registry, Results(trainer, files), runtime.new_id)


def responses(
    runtime: Runtime,
    asker: Asker,
    chatter: Chatter,
    router: Router,
    generator: RemoteGenerator | ReplicatedGenerator,
    gate: Gate,
) -> ResponseServicer:
    """Responses over the cores of Ask and Chat, kept by the service of files."""
    archive, library = RemoteArchive(runtime.channel("files")), RemoteLibrary(runtime.channel("retriever"))
    now = runtime.clock.now
    responder = Responder(asker, chatter, archive, library, lambda: now().timestamp(), runtime.new_id)
    return ResponseServicer(responder, Counting(router, generator, archive), gate)
