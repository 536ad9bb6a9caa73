import threading
from pathlib import Path

from services.trainer.conduct import Refused
from services.trainer.joint.encoder import Encoded
from services.trainer.joint.held import Held
from services.trainer.joint.preparing import Preparer, Ready
from services.trainer.settings import Settings
from services.trainer.work import Work


class Gated:
    """Encodes nothing; notes who came, once it may begin."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.came: list[str] = []

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        self.open.wait()
        self.came.append(folder.name)
        raise Refused("DATASET_MALFORMED", "nothing is wanted of it")

    def close(self) -> None:
        pass


def order_of(tmp_path: Path, waiting: list[Held]) -> list[str]:
    """In which order jobs are encoded that have all come while the first one is."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    for held in waiting:
        Work(str(tmp_path), "tiny", str(rows), Settings(), threads=1, data_dir=str(tmp_path)).write(held.folder)
    gate, ready = Gated(), threading.Semaphore(0)

    def take(_: Ready) -> None:
        preparer.taken()
        ready.release()

    preparer = Preparer(gate, take)
    for held in waiting:
        preparer.put(held)
    thread = threading.Thread(target=preparer.run)
    thread.start()
    gate.open.set()
    for _ in waiting:
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


def test_a_higher_class_is_read_first_and_who_is_to_leave_is_let_go_before_all(tmp_path: Path) -> None:
    waiting = [
        held(tmp_path, "first", "a"),
        held(tmp_path, "urgent", "a", priority=2),
        held(tmp_path, "stopping", "a"),
    ]
    waiting[2].stopping = True
    # Who leaves is not read.
    assert order_of(tmp_path, waiting) == ["urgent", "first"]
