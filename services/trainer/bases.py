"""The base model that this deployment trains on, and what follows from it for a job's defaults."""

import json
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.models import ResolvedModel
from services.trainer.job import Job, Settings, default_learning_rate
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class Base:
    """One base model, ready on this machine."""

    model: ResolvedModel
    threads: int
    data_dir: Path

    def named(self, name: str) -> ResolvedModel:
        """Return the base that `name` means; empty means the default.  Raises BASE_NOT_FOUND."""
        if name not in ("", self.model.name):
            raise Failure(Reason.BASE_NOT_FOUND, name=name, known=self.model.name, field="base")
        return self.model

    def default_settings(self) -> Settings:
        """Return every setting as it is when the caller leaves it open."""
        config = json.loads((self.model.path / "config.json").read_text())
        return Settings(learning_rate=default_learning_rate(int(config["hidden_size"])))

    def work(self, job: Job, dataset_path: str) -> Work:
        """Return a job's order to its process.  Raises BASE_NOT_FOUND when the deployment's base is another by now."""
        if job.order.base_digest != self.model.digest:
            raise Failure(Reason.BASE_NOT_FOUND, name=job.order.base_digest, known=self.model.digest)
        return Work(
            base_folder=str(self.model.path),
            base_name=self.model.name,
            dataset_path=dataset_path,
            settings=job.order.settings,
            threads=self.threads,
            data_dir=str(self.data_dir),
        )
