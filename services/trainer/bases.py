"""The base models that are trained on: the deployment's own, and full models of a job's tenant.

Invariant: a job trains on the folder whose digest its order names.  A tenant's model comes out of the registry
under the tenant's own identity, so a name of another tenant's leads nowhere.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.full_models import FullModel, FullModels
from services.chassis.models import ResolvedModel
from services.chassis.streams import Chunk, receive
from services.trainer.job import Job, Order
from services.trainer.needs import Architecture, architecture
from services.trainer.ordering import completed
from services.trainer.row_needs import Data
from services.trainer.work import Work

_PREFIX = "base:"
_CONFIG = "config.json"
_WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class OwnBase:
    """A full model of a tenant's: ``model@number``, its version, and the manifest that the version is the digest of."""

    name: str
    version: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The base that a job is to train on.

    ``version`` is empty for one of the deployment's; ``uri`` says where it came from, empty where nothing does.
    """

    name: str
    digest: str
    version: str
    architecture: Architecture
    uri: str = ""


class Registry(Protocol):
    """The registry as the bases need it, under the identity of whoever is served."""

    async def base(self, name: str) -> OwnBase | None:
        """The full model that ``base:NAME`` means; None when it means none of the tenant's.

        Raises BASE_NOT_FOUND, FIELD_INVALID for an adapter, and what the registry fails with.
        """

    async def own(self, version: str) -> OwnBase:
        """A full model by its version.  Raises VERSION_NOT_FOUND."""

    def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """A file's bytes from an offset."""

    def acting_for(self, tenant: str, principal: str) -> AbstractAsyncContextManager[object]:
        """Inside the block the calls are the tenant's, outside of any request."""


class Bases:
    """The deployment's bases, the default first, and the way to those of tenants."""

    def __init__(
        self,
        deployed: Sequence[ResolvedModel],
        registry: Registry,
        models: FullModels,
        *,
        threads: int,
        data_dir: Path,
        serving_rank: int,
    ) -> None:
        self._deployed = deployed
        self._registry = registry
        self._models = models
        self.threads = threads
        self._data_dir = data_dir
        self._serving_rank = serving_rank

    @property
    def default(self) -> ResolvedModel:
        """The base that is trained on when none is named."""
        return self._deployed[0]

    async def chosen(self, name: str) -> Chosen:
        """The base that ``name`` means to the caller: empty or ``base`` is the default.

        ``base:NAME`` is a base of the deployment's, or else a full model of the tenant's; ``base:NAME@VERSION`` pins
        one.  Whether it can be trained here is the order's to say (`planning.unfit`).  Raises BASE_NOT_FOUND, FIELD_INVALID.
        """
        wanted = name.removeprefix(_PREFIX)
        for model in self._deployed:
            if wanted == model.name or (name in ("", "base") and model is self.default):
                config = (model.path / _CONFIG).read_bytes()
                return Chosen(model.name, model.digest, "", architecture(json.loads(config)), _public(model.uri))
        own = await self._registry.base(wanted)
        if own is None:
            known = ", ".join(model.name for model in self._deployed)
            raise Failure(Reason.BASE_NOT_FOUND, name=name, known=f"{known}, and full models of yours", field="base")
        return await self._own(own)

    @asynccontextmanager
    async def folder(self, name: str) -> AsyncIterator[tuple[str, Path]]:
        """The own name of the base that ``name`` means to the caller and, inside the block, a folder to encode rows with.

        Of a tenant's base the weights may be missing in it: a base that is too large for this machine has a tokenizer and
        a template too.  Raises what ``chosen`` raises, and what fetching a tenant's base fails with.
        """
        chosen = await self.chosen(name)
        if not chosen.version:
            yield chosen.name, next(model.path for model in self._deployed if model.digest == chosen.digest)
            return
        with self._models.holding(chosen.digest) as here:
            if here is not None:
                yield chosen.name, here
                return
        own = await self._registry.own(chosen.version)
        with TemporaryDirectory() as fetched:
            for file in FullModel.of_manifest(own.version, own.manifest).files:
                if not file.filename.endswith(_WEIGHTS):
                    pieces = self._registry.download(file.sha256, 0)
                    await receive(pieces, Path(fetched) / file.filename, file.size_bytes, file.sha256)
            yield chosen.name, Path(fetched)

    async def _own(self, own: OwnBase) -> Chosen:
        model = FullModel.of_manifest(own.version, own.manifest)
        sha256 = next(file.sha256 for file in model.files if file.filename == _CONFIG)
        config = b"".join([chunk.data async for chunk in self._registry.download(sha256, 0)])
        uri = json.loads(own.manifest)["lineage"].get("base_uri", "")
        return Chosen(own.name, model.digest, own.version, architecture(json.loads(config)), uri)

    def completed(self, order: Order, base: Chosen, data: Data) -> Order:
        """The order with what depends on this machine and on what it trains on (`ordering`)."""
        return completed(order, base.architecture, threads=self.threads, serving_rank=self._serving_rank, data=data)

    def here(self, job: Job) -> bool:
        """Whether the job's base lies on this machine, so that it can train at once."""
        return not job.order.base_version or self._models.local(job.order.base_digest) is not None

    async def fetch(self, job: Job) -> None:
        """Bring the job's base here.  Raises BASE_NOT_FOUND when it was deleted, and what the registry fails with."""
        async with self._registry.acting_for(job.tenant, job.principal):
            await self._models.obtain(await self._model(job), self._registry.download)

    @asynccontextmanager
    async def work(self, job: Job, dataset_path: str, validation_path: str, start_path: str) -> AsyncIterator[Work]:
        """A job's order to its process; inside the block its base stays where the order says.

        The paths are of files on this machine, empty for none.

        Raises BASE_CHANGED when the deployment's base is another by now, NOT_READY for one that is to be fetched.
        """
        work = self._work(job, dataset_path, validation_path, start_path)
        if not job.order.base_version:
            yield replace(work, base_folder=str(self._deployed_base(job).path))
            return
        with self._models.holding(job.order.base_digest) as folder:
            if folder is None:
                why = f"{job.order.base} is not on this machine"
                raise Failure(Reason.NOT_READY, service="The base", why=why, retry_after_seconds=1.0)
            yield replace(work, base_folder=str(folder))

    def _deployed_base(self, job: Job) -> ResolvedModel:
        for model in self._deployed:
            if model.digest == job.order.base_digest:
                return model
        known = ", ".join(f"{model.name} ({model.digest})" for model in self._deployed)
        raise Failure(Reason.BASE_CHANGED, name=job.order.base, digest=job.order.base_digest, known=known)

    async def _model(self, job: Job) -> FullModel:
        try:
            own = await self._registry.own(job.order.base_version)
        except Failure as failure:
            if failure.reason is not Reason.VERSION_NOT_FOUND:
                raise
            known = "full models that are in the registry; this one was deleted"
            raise Failure(Reason.BASE_NOT_FOUND, name=job.order.base, known=known) from failure
        return FullModel.of_manifest(own.version, own.manifest)

    def _work(self, job: Job, dataset_path: str, validation_path: str, start_path: str) -> Work:
        return Work(
            base_folder="",
            base_name=job.order.base,
            dataset_path=dataset_path,
            settings=job.order.settings,
            threads=job.order.threads or self.threads,
            data_dir=str(self._data_dir),
            base_digest=job.order.base_digest,
            validation_path=validation_path,
            start_path=start_path,
            recipe=job.order.recipe,
        )


def _public(uri: str) -> str:
    """Where a base of the deployment's came from, as tenants may read it: a path of this machine tells them nothing."""
    return "" if uri.startswith("file:") else uri
