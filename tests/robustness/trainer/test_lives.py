"""Whatever people ask for, and whatever is killed or frozen meanwhile: no job lost, none run twice, no event lost.

Promises 1, 2 and 7.  Some lives are part of every run; `make soak` has a hundred.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trivium.trainer.v1 import training_pb2

from services.chassis.status import from_rpc_error
from tests.harness.plugin_sampling import offset
from tests.postgres import Postgres
from tests.robustness.trainer.lives import ENDED, KINDS, Watch, World, new_request_id, one_trainer, two_trainers
from tests.s3 import S3
from tests.stack import eventually
from tests.unit.trainer.tiny import make_base

_MOST_JOBS = 4
_LEAST_STEPS, _MOST_STEPS = 5, 10
# How often each may happen in one life, so that one follows another and none comes ten times.
_OFTEN = {"submit": 2, "pause": 3, "resume": 3, "cancel": 2, "cut": 2, "kill": 2, "end": 2, "freeze": 1}
# So long a rule waits at most for a job to come as far as it says: a paused one never does.
_PACE_SECONDS = 3.0
_KIND = st.sampled_from(sorted(KINDS))
_WHICH = st.integers(0, _MOST_JOBS - 1)
_TRAINER = st.integers(0, 1)
_AFTER = st.sampled_from([0, 0, 1, 4, 8, 16])


def at_times(what: str) -> Callable[[Any], Any]:
    """What a rule does, at most as often in a life as is said above."""

    def counted(does: Callable[..., None]) -> Any:
        @wraps(does)
        def once_more(life: "Lives", **choices: Any) -> None:
            life.left[what] -= 1
            does(life, **choices)

        return precondition(lambda life: life.left[what] > 0)(once_more)

    return counted


class Lives(RuleBasedStateMachine):
    """One life: jobs are ordered and disturbed; at its end everything is let go on, and looked at."""

    world: World
    # Told apart by number: the service outlives a life.
    lives = iter(range(1_000_000))

    def __init__(self) -> None:
        super().__init__()
        self.life = f"life-{next(self.lives)}"
        self.jobs: list[Watch] = []
        self.kinds: list[str] = []
        self.cancelled: set[str] = set()
        self.left = dict(_OFTEN)
        # Who held a job under which epoch of its lease.
        self.holders: dict[tuple[str, int], str] = {}

    def _calling(self, rpc: str, request: Any, *refusals: str) -> bool:
        """Ask for something that may be refused for what the job does meanwhile; whether it was taken."""
        with self.world.caller() as caller:
            try:
                getattr(caller.training, rpc)(request, metadata=caller.metadata, wait_for_ready=True, timeout=60)
            except grpc.RpcError as error:
                if from_rpc_error(error).reason in refusals:
                    return False
                raise
        return True

    def _job(self, which: int, after: int) -> Watch:
        """One of the jobs, when it has done so many more steps, or does not get there."""
        watch = self.jobs[which % len(self.jobs)]
        aim = len(watch.steps) + after
        watch.wait(lambda now: len(now.steps) >= aim or now.state in ENDED, _PACE_SECONDS)
        return watch

    def _look(self) -> None:
        for job, epoch, owner in self.world.ask(
            "SELECT job, lease_epoch, lease_owner FROM jobs WHERE lease_owner <> ''"
        ):
            assert self.holders.setdefault((job, epoch), owner) == owner, f"two hold {job} under lease {epoch}"

    def _submit(self, kind: str, trainer: int) -> None:
        model = f"{self.life}-{len(self.jobs)}"
        request_id = new_request_id()
        made = set()
        for turn in (trainer, trainer + 1):
            with self.world.caller(turn) as caller:
                made.add(self.world.order(caller, kind, model, request_id).job)
                metadata = caller.metadata
        (job,) = made
        self.jobs.append(Watch(self.world, job, metadata))
        self.kinds.append(kind)

    @initialize(kinds=st.tuples(_KIND, _KIND))
    def begin(self, kinds: tuple[str, str]) -> None:
        for kind in kinds:
            self._submit(kind, 0)

    @rule(kind=_KIND, trainer=_TRAINER)
    @at_times("submit")
    def submit(self, kind: str, trainer: int) -> None:
        self._submit(kind, trainer)

    @rule(which=_WHICH, after=_AFTER)
    def let_it_go_on(self, which: int, after: int) -> None:
        self._job(which, after)

    @rule(which=_WHICH, after=_AFTER)
    @at_times("pause")
    def pause(self, which: int, after: int) -> None:
        self._calling("PauseJob", training_pb2.PauseJobRequest(job=self._job(which, after).job), "JOB_FINISHED")

    @rule(which=_WHICH)
    @at_times("resume")
    def resume(self, which: int) -> None:
        self._calling("ResumeJob", training_pb2.ResumeJobRequest(job=self._job(which, 0).job), "JOB_NOT_PAUSED")

    @rule(which=_WHICH, after=_AFTER)
    @at_times("cancel")
    def cancel(self, which: int, after: int) -> None:
        job = self._job(which, after).job
        if self._calling("CancelJob", training_pb2.CancelJobRequest(job=job), "JOB_FINISHED"):
            self.cancelled.add(job)

    @rule(which=_WHICH)
    @at_times("cut")
    def cut_the_watch(self, which: int) -> None:
        self._job(which, 0).cut()

    @rule(trainer=_TRAINER, which=_WHICH, after=_AFTER)
    @at_times("kill")
    def kill_the_training_processes(self, trainer: int, which: int, after: int) -> None:
        self._job(which, after)
        self._look()
        self.world.kill_processes(trainer)

    @rule(
        trainer=_TRAINER,
        which=_WHICH,
        after=_AFTER,
        how=st.sampled_from([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]),
    )
    @at_times("end")
    def end_the_trainer(self, trainer: int, which: int, after: int, how: signal.Signals) -> None:
        self._job(which, after)
        self._look()
        self.world.restart(trainer, how)

    @precondition(lambda self: not self.world.frozen)
    @rule(trainer=_TRAINER, which=_WHICH, after=_AFTER)
    @at_times("freeze")
    def freeze_a_trainer(self, trainer: int, which: int, after: int) -> None:
        self._job(which, after)
        self._look()
        self.world.freeze(trainer % len(self.world.trainers))
        if len(self.world.trainers) == 1:
            # Nobody would answer.
            self.world.thaw(0)

    @precondition(lambda self: self.world.frozen)
    @rule()
    def thaw(self) -> None:
        for which in list(self.world.frozen):
            self.world.thaw(which)
        self._look()

    @invariant()
    def no_trainer_ends_by_itself(self) -> None:
        """Seen at once: every call of a life would wait for it."""
        self.world.require_running()

    def teardown(self) -> None:
        for which in list(self.world.frozen):
            self.world.thaw(which)
        self._eventually(self._ended, f"the jobs of {self.life} end")
        for watch, kind in zip(self.jobs, self.kinds, strict=True):
            watch.join()
            self._judge(watch, kind)
        left = "SELECT job FROM jobs WHERE lease_owner <> ''"
        self._eventually(lambda: not self.world.ask(left), "no lease is left")
        self._eventually(lambda: not self.world.strays(), f"no process is left alone: {self.world.strays()}")
        folders = [trainer.job_folders for trainer in self.world.trainers]
        self._eventually(lambda: not any(left() for left in folders), "no folder of an ended job is left")

    def _eventually(self, happens: Callable[[], bool], what: str) -> None:
        """Wait for it; a failure carries the state of the jobs, since it seldom repeats."""
        try:
            eventually(happens, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._stands()}") from error

    def _ended(self) -> bool:
        """Whether every job has ended; the paused are resumed, since they would never."""
        self._look()
        self.world.require_running()
        for watch in self.jobs:
            watch.require_listening()
            if watch.state == training_pb2.JOB_STATE_PAUSED:
                self._calling("ResumeJob", training_pb2.ResumeJobRequest(job=watch.job), "JOB_NOT_PAUSED")
        return all(watch.state in ENDED for watch in self.jobs)

    def _stands(self) -> str:
        """Return each job's state, as its watcher heard it and as it is stored, the folders that are left, and the ends of the logs."""
        lines = []
        for watch in self.jobs:
            query = "SELECT state, sequence, lease_owner, lease_expires_at - :now FROM jobs WHERE job = :job"
            stored = self.world.ask(query, job=watch.job)
            lines.append(f"{watch.job}: heard {watch.state} up to {watch.seen}; stored {stored}")
        for trainer in self.world.trainers:
            left = {job: trainer.left_of(job) for job in trainer.job_folders()}
            lines += [f"{job} left {sorted(names)}" for job, names in left.items()]
        logs = [(trainer.folder / "trainer.log").read_text()[-4000:] for trainer in self.world.trainers]
        return "\n".join([*lines, *logs])

    def _judge(self, watch: Watch, kind: str) -> None:
        """What a job ended with, and what was told of it, is what it would have been undisturbed."""
        with self.world.caller() as caller:
            job = caller.get(watch.job)
            versions = self.world.weights(caller, job.model)
            again = list(caller.watch(job.job))
        if watch.job in self.cancelled:
            assert (job.state, versions) == (training_pb2.JOB_STATE_CANCELLED, [])
        else:
            assert job.state == training_pb2.JOB_STATE_SUCCEEDED, job.error
            assert versions == [self.world.alone[kind]]
            assert watch.steps == list(range(1, job.total_steps + 1))
        assert watch.events == again, "what was cut together is not what is stored"
        assert [event.sequence for event in again] == list(range(1, len(again) + 1))
        told = Counter((event.kind, event.step) for event in again if event.kind in _ONCE)
        assert set(told.values()) <= {1}, f"told twice: {[what for what, times in told.items() if times > 1]}"
        assert watch.steps == sorted(watch.steps)
        assert [event.state in ENDED for event in again] == [False] * (len(again) - 1) + [True]
        ((epoch, attempts),) = self.world.ask("SELECT lease_epoch, attempts FROM jobs WHERE job = :job", job=watch.job)
        begun = sum(event.message in ("training", "training again") for event in again)
        assert epoch == attempts == begun == job.attempts


_ONCE = frozenset(
    {
        training_pb2.JOB_EVENT_KIND_STEP,
        training_pb2.JOB_EVENT_KIND_CHECKPOINT,
        training_pb2.JOB_EVENT_KIND_EVALUATION,
    }
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    """What each kind of job becomes undisturbed, found out by the first world."""
    return {}


@pytest.fixture(scope="module", params=["one trainer over sqlite", "two trainers over postgres"])
def world(
    request: pytest.FixtureRequest, base: Path, alone: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Trainers in both worlds."""
    folder = tmp_path_factory.mktemp("lives")
    if request.param.startswith("one"):
        with one_trainer(folder, base, alone) as world:
            yield world
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    s3: S3 = request.getfixturevalue("s3")
    with two_trainers(folder, base, alone, postgres.database(), s3.bucket(), s3.environment) as world:
        yield world


def live(world: World, number: int, count: int) -> None:
    """So many lives, by a number: the same ones every time."""
    machine = seed(number)(type("Life", (Lives,), {"world": world}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=_MOST_STEPS,
            deadline=None,
            database=None,
            # A life takes seconds: a failure is told as it is.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
        _min_steps=_LEAST_STEPS,
    )


@pytest.mark.timeout(600)
@pytest.mark.sampled(every=2)
def test_some_random_lives_lose_nothing(world: World) -> None:
    # Of ten pairs that are the same every time, another one at the next commit.
    live(world, 1 + offset() % 10, 2)


# Fifty lives in each world.
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(100, 105))
def test_a_hundred_random_lives_lose_nothing(world: World, number: int) -> None:
    live(world, number, 10)
