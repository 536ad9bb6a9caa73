import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from services.trainer.conduct import Refused
from services.trainer.joint.dataset import Splits
from services.trainer.joint.encoder import DatasetEncoder, Encoded
from services.trainer.joint.held import Held
from services.trainer.joint.mismatching import PAIRING, Pairing
from services.trainer.joint.preparing import Preparer, Ready
from services.trainer.settings import Keep, Objective, Settings
from services.trainer.work import CHECKPOINTS, Line, Said, Work
from tests.stack import eventually
from tests.unit.trainer.joint.company import PAIRS, company, same
from tests.unit.trainer.old_formats import write_joint


class Gated:
    """Encodes nothing; notes who came, once it may begin."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.came: list[str] = []
        self.fifth: Callable[[], None] = lambda: None

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        self.open.wait()
        self.came.append(folder.name)
        if len(self.came) == 5:
            self.fifth()
        raise Refused("DATASET_MALFORMED", "nothing is wanted of it")

    def close(self) -> None:
        pass


def order_of(
    tmp_path: Path, waiting: list[Held], weights: Mapping[str, float] | None = None, late: Sequence[Held] = ()
) -> list[str]:
    """In which order jobs are encoded that have all come while the first one is, but for those that come with the fifth."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    for held in [*waiting, *late]:
        Work(str(tmp_path), "tiny", str(rows), Settings(), threads=1, data_dir=str(tmp_path)).write(held.folder)
    gate, ready = Gated(), threading.Semaphore(0)

    def take(one: Ready) -> None:
        preparer.taken(one)
        ready.release()

    preparer = Preparer(gate, take, most_bytes=1)
    preparer.share(weights or {})

    def come() -> None:
        for one in late:
            preparer.put(one)

    gate.fifth = come
    for held in waiting:
        preparer.put(held)
    thread = threading.Thread(target=preparer.run)
    thread.start()
    gate.open.set()
    for _ in [*waiting, *late]:
        ready.acquire()
    preparer.close()
    thread.join()
    return gate.came


def held(tmp_path: Path, job: str, tenant: str, priority: int = 1) -> Held:
    return Held(job, tenant, tmp_path / job, 1, priority)


def test_a_job_waits_for_one_of_another_tenants_jobs_and_not_for_all_that_came_before(tmp_path: Path) -> None:
    crowd = [held(tmp_path, f"crowd-{number}", "crowd") for number in range(6)]
    few = [held(tmp_path, f"few-{number}", "few") for number in range(2)]
    assert order_of(tmp_path, [*crowd, *few])[:4] == ["crowd-0", "few-0", "crowd-1", "few-1"]


def test_tenants_of_a_class_take_turns_by_their_weights_and_who_comes_late_is_owed_nothing(tmp_path: Path) -> None:
    heavy = [held(tmp_path, f"heavy-{number}", "heavy") for number in range(6)]
    light = [held(tmp_path, f"light-{number}", "light") for number in range(6)]
    order = order_of(tmp_path, [*light, *heavy], {"heavy": 2.0, "nobody": 9.0})
    assert [name.partition("-")[0] for name in order[:9]].count("heavy") == 6
    assert order[:3] == ["light-0", "heavy-0", "heavy-1"]
    # The second one comes when the fifth of the first one's is read.
    alone = [held(tmp_path, f"alone-{number}", "alone") for number in range(8)]
    late = [held(tmp_path, f"late-{number}", "late") for number in range(3)]
    assert order_of(tmp_path, alone, late=late)[4:9] == ["alone-4", "late-0", "alone-5", "late-1", "alone-6"]


def test_a_higher_class_is_read_first_and_who_is_to_leave_is_let_go_before_all(tmp_path: Path) -> None:
    waiting = [
        held(tmp_path, "first", "a"),
        held(tmp_path, "urgent", "a", priority=2),
        held(tmp_path, "stopping", "a"),
    ]
    waiting[2].stopping = True
    # Who leaves is not read.
    assert order_of(tmp_path, waiting) == ["urgent", "first"]


@pytest.mark.parametrize(("room", "most"), [(10, 10), (2.5, 3), (0, 1)])
def test_jobs_are_ready_for_the_worker_as_long_as_memory_has_room_and_one_more(
    tmp_path: Path, base: Path, room: float, most: int
) -> None:
    splits = company(base).splits(Settings(objective=Objective.KTO), PAIRS, PAIRS)
    jobs = [held(tmp_path, f"job-{number}", "a") for number in range(10)]
    for job in jobs:
        Work(str(base), "tiny", str(tmp_path / "rows"), Settings(), threads=1, data_dir=str(tmp_path)).write(job.folder)
    (tmp_path / "rows").write_text("")
    inbox: SimpleQueue[Ready] = SimpleQueue()
    preparer = Preparer(Encodes(splits), inbox.put, most_bytes=int(room * splits.size_bytes))
    for job in jobs:
        preparer.put(job)
    thread = threading.Thread(target=preparer.run)
    thread.start()
    taken: list[Ready] = []
    # Taken one at a time: so many wait then, and never more.
    while len(taken) < len(jobs):
        eventually(lambda: inbox.qsize() == min(most, len(jobs) - len(taken)), "it fills the room")
        assert inbox.qsize() <= most
        taken.append(inbox.get())
        preparer.taken(taken[-1])
    preparer.close()
    thread.join()
    assert inbox.empty()


class Fails:
    """Cannot read the files."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_what_the_system_refuses_for_now_loses_a_job_and_only_a_file_that_is_gone_ends_it(
    tmp_path: Path, number: int
) -> None:
    rows, job = tmp_path / "rows.jsonl", held(tmp_path, "job", "a")
    rows.write_text("")
    Work(str(tmp_path), "tiny", str(rows), Settings(), threads=1, data_dir=str(tmp_path)).write(job.folder)
    ready = prepared(Fails(OSError(number, os.strerror(number))), job)
    assert ready.word == Line(Said.LOST, message=f"an error of the system: {os.strerror(number)}")
    rows.unlink()
    gone = prepared(Fails(OSError(number, os.strerror(number))), job)
    assert gone.word is not None
    assert (gone.word.said, gone.word.reason) == (Said.REFUSED, "DATASET_NOT_FOUND")


class Encodes:
    """Has encoded the one job there is."""

    def __init__(self, splits: Splits) -> None:
        self._splits = splits

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        return Encoded(self._splits, (), {})

    def close(self) -> None:
        pass


def prepared(encoder: DatasetEncoder, job: Held) -> Ready:
    """The job as it can join."""
    found: list[Ready] = []

    def take(ready: Ready) -> None:
        found.append(ready)
        preparer.close()

    preparer = Preparer(encoder, take, most_bytes=1)
    preparer.put(job)
    preparer.run()
    return found[0]


def test_a_job_of_the_release_before_goes_on_with_the_mismatches_that_its_references_are_of(
    tmp_path: Path, base: Path
) -> None:
    own = company(base)
    settings = Settings(
        rank=4,
        alpha=8,
        objective=Objective.KTO,
        batch_rows=4,
        undesirable_weight=0.1,
        epochs=4,
        learning_rate=1e-2,
        evaluation_steps=3,
        keep=Keep.LAST,
    )
    splits = own.splits(settings, PAIRS, PAIRS)
    began_with = splits.paired(Pairing.ROW_BEFORE, settings.max_row_tokens)
    undisturbed, broken = own.begun(settings, began_with), own.begun(settings, began_with)
    own.run(undisturbed)
    own.until_step(broken, 3)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    job = held(tmp_path, "job", "a")
    Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(tmp_path)).write(job.folder)
    write_joint(job.folder / CHECKPOINTS, 3, broken)
    ready = prepared(Encodes(splits), job)
    assert ready.encoded is not None
    assert ready.found is not None
    resumed = own.new(settings, ready.encoded.splits)
    resumed.restore(ready.found.tensors, ready.found.state, ready.found.checkpoint.progress)
    resumed.begin()
    own.run(resumed)
    assert same(resumed.result(), undisturbed.result())
    assert resumed.history == undisturbed.history
    # So that a later process goes on with them, too.
    assert resumed.state()[PAIRING] == Pairing.ROW_BEFORE
    begun = own.begun(settings, splits)
    assert begun.state()[PAIRING] == Pairing.OTHER_QUESTION
    own.run(begun)
    assert not same(begun.result(), undisturbed.result())
