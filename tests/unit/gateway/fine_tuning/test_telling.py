"""How jobs, events, checkpoints and results are told."""

import uuid

import pytest

from gateway.fine_tuning import events, labels
from gateway.fine_tuning.events import Level
from gateway.fine_tuning.results import table
from gateway.fine_tuning.training import Event, EventKind, Job, Kept, State
from gateway.fine_tuning.tuner import Wanted
from gateway.fine_tuning.view import Status, told
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.fine_tuning.fakes import World
from tests.unit.gateway.fine_tuning.test_creating import asked


def step(sequence: int, number: int, loss: float = 0.5) -> Event:
    return Event(sequence, EventKind.STEP, State.RUNNING, 100.0 + sequence, number, 4, loss, 0.001)


def evaluation(sequence: int, number: int, **values: float) -> Event:
    return Event(sequence, EventKind.EVALUATION, State.RUNNING, 100.0 + sequence, number, 4, evaluation=values)


TOLD = [
    Event(1, EventKind.STATE, State.QUEUED, 101.0, message="queued"),
    step(2, 1, 2.0),
    step(3, 2, 1.0),
    evaluation(4, 2, loss=1.5, exact_match=0.25),
    Event(5, EventKind.CHECKPOINT, State.RUNNING, 105.0, 2, 4),
    step(6, 3, float("nan")),
    Event(7, EventKind.STATE, State.FAILED, 107.0, 3, 4, message="it diverged"),
]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.QUEUED, Status.QUEUED),
        (State.RUNNING, Status.RUNNING),
        (State.PAUSING, Status.RUNNING),
        (State.PAUSED, Status.PAUSED),
        (State.CANCELLING, Status.CANCELLED),
        (State.REGISTERING, Status.RUNNING),
        (State.SUCCEEDED, Status.SUCCEEDED),
        (State.FAILED, Status.FAILED),
        (State.CANCELLED, Status.CANCELLED),
    ],
)
def test_a_state_of_the_trainer_is_a_status(state: State, status: Status) -> None:
    assert told(Job("j", state), "acme").status is status


def test_a_job_that_was_ordered_at_the_trainer_is_told_by_what_it_has() -> None:
    job = told(Job("j", State.RUNNING, model="m", dataset="rows@1", base="house", labels={"team": "boats"}), "acme")
    assert (job.training_file, job.model, job.metadata) == ("rows@1", "base:house", {"team": "boats"})
    going_on = told(Job("j", State.RUNNING, start_version="sha256:aa", base="house"), "acme")
    assert going_on.model == "sha256:aa"


def test_a_result_is_named_by_its_exact_version_and_a_failure_by_its_reason() -> None:
    assert told(Job("j", State.SUCCEEDED, model="m", version="sha256:aa"), "acme").fine_tuned_model == "m@sha256:aa"
    failed = told(Job("j", State.FAILED, error_reason="DATASET_MALFORMED", error_message="line 3"), "acme")
    assert failed.fine_tuned_model == ""
    assert failed.error is not None
    assert (failed.error.reason, failed.error.message, failed.error.field) == (
        "DATASET_MALFORMED",
        "line 3",
        "training_file",
    )


def test_events_say_what_was_measured_and_how_serious_they_are() -> None:
    found = [events.told("j-1", event) for event in TOLD]
    assert [event.level for event in found] == [Level.INFO] * 6 + [Level.ERROR]
    assert found[1].metrics == {"step": 1.0, "train_loss": 2.0, "learning_rate": 0.001}
    assert found[3].metrics == {"step": 2.0, "valid_loss": 1.5, "valid_exact_match": 0.25}
    # JSON has no such number.
    assert "train_loss" not in found[5].metrics
    assert "it diverged" in found[6].message
    assert [events.sequence_of("j-1", event.event) for event in found] == list(range(1, 8))


@pytest.mark.parametrize("event", ["ftevent-j-1", "ftevent-j-2-1", "ftevent-j-1-0", "ftevent-j-1-x", "ftevent-j-1-²"])
def test_an_event_of_another_job_leads_nowhere(event: str) -> None:
    with pytest.raises(Failure) as refused:
        events.sequence_of("j-1", event)
    assert refused.value.field == "after"


async def test_of_a_job_that_is_not_there_nothing_is_said_of_its_events(world: World) -> None:
    await world.tuner.create(asked())
    for job, reason in (("j1", Reason.FIELD_INVALID), ("j2", Reason.JOB_NOT_FOUND)):
        with pytest.raises(Failure) as refused:
            await world.tuner.events(job, 3, "ftevent-j3-1")
        assert refused.value.reason is reason


async def test_events_are_paged_newest_first_to_the_first(world: World) -> None:
    await world.tuner.create(asked())
    world.trainer.told["j1"] = TOLD
    seen: list[str] = []
    after, more = "", True
    while more:
        page = await world.tuner.events("j1", 3, after)
        seen += [event.event for event in page.entries]
        after, more = seen[-1], page.has_more
    assert seen == [f"ftevent-j1-{number}" for number in range(7, 0, -1)]


async def test_jobs_are_paged_and_sieved_by_what_is_written_on_them(world: World) -> None:
    for number in range(7):
        metadata = {"team": "boats", "n": str(number)} if number % 2 else {}
        await world.tuner.create(asked(metadata=metadata))

    async def page(**fields: object) -> tuple[list[str], bool]:
        found = await world.tuner.page(Wanted(**fields))  # type: ignore[arg-type]  # fields of Wanted, by the test
        return [job.of.job for job in found.entries], found.has_more

    assert await page() == ([f"j{number}" for number in range(7, 0, -1)], False)
    assert await page(size=3) == (["j7", "j6", "j5"], True)
    assert await page(size=3, after="j4") == (["j3", "j2", "j1"], False)
    assert await page(size=2, metadata={"team": "boats"}) == (["j6", "j4"], True)
    assert await page(size=2, after="j4", metadata={"team": "boats"}) == (["j2"], False)
    assert await page(metadata={"team": "boats", "n": "3"}) == (["j4"], False)
    assert await page(bare=True) == (["j7", "j5", "j3", "j1"], False)


async def test_a_job_that_has_succeeded_has_one_table_of_its_steps(world: World) -> None:
    await world.tuner.create(asked())
    world.trainer.told["j1"] = TOLD
    assert (await world.tuner.get("j1")).result_files == ()
    world.trainer.moved("j1", state=State.SUCCEEDED, version="sha256:aa")
    for _ in range(2):
        assert (await world.tuner.get("j1")).result_files == ("file-of-step_metrics_j1.csv",)
    ((request_id, name, content),) = world.files.results
    assert uuid.UUID(request_id)
    assert name == "step_metrics_j1.csv"
    assert content.decode().splitlines() == [
        "step,train_loss,learning_rate,valid_exact_match,valid_loss",
        "1,2.0,0.001,,",
        "2,1.0,0.001,0.25,1.5",
        "3,,0.001,,",
    ]


async def test_who_may_only_look_and_who_has_no_room_is_told_a_job_without_the_table(world: World) -> None:
    await world.tuner.create(asked())
    world.trainer.moved("j1", state=State.SUCCEEDED)
    for reason in (Reason.ROLE_MISSING, Reason.FILES_EXHAUSTED, Reason.DISK_FULL):
        world.files.refuses = Failure(reason)
        assert (await world.tuner.get("j1")).result_files == ()
    world.files.refuses = Failure(Reason.PEER_UNAVAILABLE, service="files")
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.PEER_UNAVAILABLE):
        await world.tuner.get("j1")


def test_a_table_without_steps_has_its_columns() -> None:
    assert table([]) == b"step,train_loss,learning_rate\n"


async def test_checkpoints_become_versions_once_and_stay_when_the_job_has_succeeded(world: World) -> None:
    await world.tuner.create(asked())
    world.trainer.told["j1"] = TOLD
    world.trainer.kept["j1"] = [Kept(2, 105.5), Kept(1, 103.0), Kept(0, 101.0)]
    for _ in range(2):
        page = await world.tuner.checkpoints("j1", 0, "")
        assert [(found.step, found.model) for found in page.entries] == [
            (2, "desk@sha256:step2"),
            (1, "desk@sha256:step1"),
        ]
    assert [step for _, step, _ in world.trainer.published] == [2, 1]
    newest = page.entries[0]
    assert newest.metrics == {
        "step": 2.0,
        "train_loss": 1.0,
        "learning_rate": 0.001,
        "valid_loss": 1.5,
        "valid_exact_match": 0.25,
    }
    assert newest.create_time == 103.0
    world.trainer.kept["j1"] = []
    settings = {**world.trainer.jobs["j1"].settings, "keep": "KEEP_LAST"}
    world.trainer.moved("j1", state=State.SUCCEEDED, version="sha256:end", step=4, best_step=2, settings=settings)
    page = await world.tuner.checkpoints("j1", 1, "")
    assert ([found.model for found in page.entries], page.has_more) == (["desk@sha256:end"], True)
    rest = await world.tuner.checkpoints("j1", 0, page.entries[0].checkpoint)
    assert [found.step for found in rest.entries] == [2, 1]
    best = {**settings, "keep": "KEEP_BEST"}
    world.trainer.moved("j1", settings=best)
    page = await world.tuner.checkpoints("j1", 0, "")
    assert [(found.step, found.model) for found in page.entries] == [(2, "desk@sha256:end"), (1, "desk@sha256:step1")]
    with pytest.raises(Failure) as refused:
        await world.tuner.checkpoints("j1", 0, "ftckpt-j2-1")
    assert refused.value.field == "after"


async def test_a_checkpoint_that_is_gone_is_none_and_who_may_only_look_makes_none(world: World) -> None:
    await world.tuner.create(asked())
    world.trainer.kept["j1"] = [Kept(2, 105.0)]
    for reason in (Reason.CHECKPOINT_NOT_FOUND, Reason.ROLE_MISSING):
        world.trainer.refuses = Failure(reason)
        assert (await world.tuner.checkpoints("j1", 0, "")).entries == []
    world.trainer.refuses = Failure(Reason.DISK_FULL, what="jobs")
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.DISK_FULL):
        await world.tuner.checkpoints("j1", 0, "")


def test_of_many_checkpoints_the_oldest_are_forgotten() -> None:
    written: dict[str, str] = {}
    for number in range(1, labels.MOST_CHECKPOINTS + 3):
        written |= labels.with_checkpoint(written, number, f"v{number}")
        written = {name: value for name, value in written.items() if value}
    assert sorted(labels.checkpoints(written)) == list(range(3, labels.MOST_CHECKPOINTS + 3))
