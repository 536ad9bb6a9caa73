"""What a job would cost, before anything is spent: tokens by its rows, memory by arithmetic, time by what was measured.

Invariants: a speed that was never measured here is 0, and the time is then a rough one, which can be told from that.
And an order that would be refused is not estimated as if it were taken.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure
from services.trainer.data.dataset_rows import Dataset, find
from services.trainer.data.report import FEW_STEPS, few_steps
from services.trainer.job import Order
from services.trainer.jobs import Jobs
from services.trainer.needs import Architecture
from services.trainer.ordering import memory_parts
from services.trainer.rough_speed import Rough
from services.trainer.row_needs import Data
from services.trainer.settings import Objective
from services.trainer.settling import examples, settled_order, step_tokens, steps
from services.trainer.solo.needs import trained_parameters
from services.trainer.speeds import Kind, kind_of, speeds

# Adapters are kept in fp32, full models in their base's own precision.
_FLOAT_BYTES, _HALF_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens over all passes, optimizer steps, seconds of an otherwise idle machine, bytes.

    ``tokens_per_second`` is what jobs of the same kind (`speeds`) reached here, 0 when none has trained yet; then
    ``seconds`` is by the arithmetic of `rough`, or 0 where that has nothing to go by.  ``memory_parts`` sum to
    ``memory_bytes``.  Of an order that does not fit a warning says why.
    """

    order: Order
    tokens: int
    steps: int
    seconds: float
    tokens_per_second: float
    trainable_parameters: int
    version_bytes: int
    memory_parts: Mapping[str, int]
    fits: bool
    warnings: Sequence[str]

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return sum(self.memory_parts.values())


class Estimates:
    """Reads what datasets hold and what jobs measured; `rough` guesses the speed where none did."""

    def __init__(self, database: Database, jobs: Jobs, rough: Rough, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._jobs = jobs
        self._rough = rough
        self._now = now

    async def data(self, tenant: str, dataset: str, validation_dataset: str) -> Data:
        """What an order names.

        What is not there is left out: whoever queues the order says so, unless it was queued before that was deleted.
        """

        def found(session: Session, name: str) -> Dataset | None:
            try:
                return find(session, tenant, name) if name else None
            except Failure:
                return None

        return await self._database.read(
            lambda session: Data(found(session, dataset), found(session, validation_dataset))
        )

    async def warned(self, tenant: str, orders: Sequence[Order], base: Architecture) -> list[Order]:
        """The orders, with a warning where by its estimate one cannot meet its deadline.

        One that cannot be estimated is left as it is: whoever queues it says why, unless it was queued before.
        """
        if not any(order.deadline for order in orders):
            return list(orders)
        measured = speeds(await self._jobs.recent())
        return [await self._warned(tenant, order, base, measured) for order in orders]

    async def _warned(self, tenant: str, order: Order, base: Architecture, measured: Mapping[Kind, float]) -> Order:
        try:
            found = await self._of(tenant, order, base, "", measured)
        except Failure:
            return order
        return replace(order, warnings=(*order.warnings, *_lateness(order, found.seconds, self._now())))

    async def of(self, tenant: str, order: Order, base: Architecture, misfit: str) -> Estimate:
        """The estimate of an order that is complete; `misfit` as `estimate` has it.  Raises as `settled_order`."""
        (found,) = await self.of_all(tenant, [(order, misfit)], base)
        return found

    async def of_all(self, tenant: str, orders: Sequence[tuple[Order, str]], base: Architecture) -> list[Estimate]:
        """The estimates of orders on one base, each with its misfit, as `of`."""
        known = speeds(await self._jobs.recent())
        return [await self._told(tenant, order, base, misfit, known) for order, misfit in orders]

    async def _told(
        self, tenant: str, order: Order, base: Architecture, misfit: str, known: Mapping[Kind, float]
    ) -> Estimate:
        found = await self._of(tenant, order, base, misfit, known)
        # Of what does not fit the last warning says why.
        late = [] if misfit else _lateness(order, found.seconds, self._now())
        return replace(found, warnings=[*found.warnings, *late])

    async def _of(
        self, tenant: str, order: Order, base: Architecture, misfit: str, known: Mapping[Kind, float]
    ) -> Estimate:
        def read(session: Session) -> tuple[Order, Dataset, Dataset | None]:
            held_out = order.validation_dataset
            settled, dataset = settled_order(session, tenant, order, self._now(), for_use=False)
            return settled, dataset, find(session, tenant, held_out) if held_out else None

        settled, dataset, held_out = await self._database.read(read)
        measured = known.get(kind_of(order), 0.0)
        guessed = 0.0 if measured else await self._rough.tokens_per_second(base, order.settings)
        return estimate(settled, dataset, base, measured, misfit, guessed=guessed, held_out=held_out)


def estimate(
    order: Order,
    dataset: Dataset,
    base: Architecture,
    tokens_per_second: float,
    misfit: str = "",
    *,
    guessed: float = 0.0,
    held_out: Dataset | None = None,
) -> Estimate:
    """Work it out.  `misfit` is why the order could never be trained here, empty when it could.

    ``guessed`` is how many tokens a second it counts with where ``tokens_per_second`` was not measured; ``held_out`` is
    the dataset that it is evaluated on, where one is named.
    """
    settings = order.settings
    count = examples(dataset, order)
    planned = steps(count, order)
    tokens = round(planned * step_tokens(dataset, order))
    trained = trained_parameters(base, settings)
    shared, own = memory_parts(base, order, Data(dataset, held_out))
    parts = {**shared, **own}
    speed = tokens_per_second or guessed
    return Estimate(
        order=order,
        tokens=tokens,
        steps=planned,
        seconds=tokens / speed if speed else 0.0,
        tokens_per_second=tokens_per_second,
        trainable_parameters=trained,
        version_bytes=trained * (_FLOAT_BYTES if settings.method.makes_adapter else _HALF_BYTES),
        memory_parts=parts,
        fits=not misfit,
        warnings=[*order.warnings, *_warnings(order, dataset, planned), *([misfit] if misfit else [])],
    )


def _lateness(order: Order, seconds: float, now: float) -> Sequence[str]:
    """What is to be said of an order that ends after its deadline even on an idle machine."""
    if not order.deadline or now + seconds <= order.deadline:
        return []
    return [
        f"by the estimate it trains for {_span(seconds)} on a machine that does nothing else, and the deadline is in "
        f"{_span(order.deadline - now)}: order less (epochs, max_steps, sample_rows), or a later deadline"
    ]


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _warnings(order: Order, dataset: Dataset, planned: int) -> Sequence[str]:
    settings, found = order.settings, []
    texts = settings.objective is Objective.CONTINUED
    if dataset.max_row_tokens > settings.max_row_tokens and not texts:
        found.append(
            f"the longest row has {dataset.max_row_tokens} tokens, rows are cut at {settings.max_row_tokens}: "
            "raise max_row_tokens, or validate the dataset to see which"
        )
    if planned < FEW_STEPS:
        found.append(few_steps(planned))
    return found
