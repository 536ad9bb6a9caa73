"""One place divides the machine; training runs idle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.chassis import process_identity
from services.chassis.resources import ResidentMemory, ResourceSettings, Role, plan, serving, shares
from tests.peak_memory import peak_memory_bytes

ROOT = Path(__file__).resolve().parents[3]
GIB = 1024**3


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_few_cores_are_shared_by_all_with_different_priorities(cores: int) -> None:
    machine = plan(cores, 16 * GIB, tuple(range(cores)))
    assert {share.cpus for share in machine.values()} == {tuple(range(cores))}
    assert [role for role, share in machine.items() if share.idle] == [Role.TRAINER]


@pytest.mark.parametrize("cores", [4, 8, 64])
def test_many_cores_give_the_engine_its_own(cores: int) -> None:
    machine = plan(cores, 64 * GIB, tuple(range(cores)))
    assert not set(machine[Role.ENGINE].cpus) & set(machine[Role.EMBEDDER].cpus)
    assert len(machine[Role.ENGINE].cpus) == cores // 2
    assert sum(share.memory_bytes for share in machine.values()) <= 64 * GIB


def test_children_get_thread_counts_and_spin_for_a_moment_at_most() -> None:
    machine = plan(4, 64 * GIB, (2, 3, 5, 7))
    environment = machine[Role.ENGINE].environment()
    assert environment["OMP_NUM_THREADS"] == "2"
    assert (environment["GOMP_SPINCOUNT"], environment["OMP_WAIT_POLICY"]) == ("10000", "PASSIVE")
    assert {machine[role].environment()["GOMP_SPINCOUNT"] for role in Role if role is not Role.ENGINE} == {"0"}
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "2,3"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "12"
    assert "VLLM_CPU_KVCACHE_SPACE" not in plan(4, 64 * GIB)[Role.TRAINER].environment()


def test_the_deployment_can_set_less_than_the_machine_has() -> None:
    machine = shares(ResourceSettings(cores=1, memory_bytes=4 * GIB))
    assert machine[Role.TRAINER].threads == 1
    assert machine[Role.ENGINE].memory_bytes < 4 * GIB


def test_training_takes_idle_priority_and_leaves_it_again() -> None:
    code = (
        "import os, threading; from services.chassis import resources as r\n"
        "stop = threading.Event(); threading.Thread(target=stop.wait, daemon=True).start()\n"
        "r.apply('trainer')\n"
        "print([os.sched_getscheduler(t) for t in r._threads()], os.nice(0))\n"
        "r.set_idle(False)\n"
        "print([os.sched_getscheduler(t) for t in r._threads()], os.nice(0)); stop.set()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    idle, normal = run.stdout.splitlines()
    assert idle == f"[{os.SCHED_IDLE}, {os.SCHED_IDLE}] 19"
    assert normal == f"[{os.SCHED_OTHER}, {os.SCHED_OTHER}] 0"


def test_who_takes_idle_priority_with_children_takes_those_along_that_it_had() -> None:
    code = (
        "import os, subprocess, sys; from services.chassis import resources as r\n"
        "child = subprocess.Popen(['/bin/sleep', '60'])\n"
        "for idle in (True, False):\n"
        "    r.set_idle(idle, nice=5, children=True)\n"
        "    print(os.sched_getscheduler(child.pid), os.getpriority(os.PRIO_PROCESS, child.pid))\n"
        "child.kill(); child.wait()\n"
        "r.set_idle(True, children=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [f"{os.SCHED_IDLE} 5", f"{os.SCHED_OTHER} 0"]


@pytest.mark.parametrize(("own_session", "of_the_child"), [(True, 19), (False, 0)])
def test_a_child_that_gives_way_does_not_take_its_parent_along(own_session: bool, of_the_child: int) -> None:
    weighed = Path("/proc/self/autogroup")
    if not weighed.exists():
        # A kernel that weighs no sessions: there is nothing to take along.
        assert not Path("/proc/sys/kernel/sched_autogroup_enabled").exists()
        return
    group = f"open('{weighed}').read().split()[-1]"
    child = f"from services.chassis.resources import set_idle; set_idle(True); print({group}, flush=True)"
    code = (
        "import asyncio, sys; from services.chassis.processes import spawn\n"
        "async def main():\n"
        f"    child = await spawn([sys.executable, '-c', {child!r}], own_session={own_session})\n"
        f"    assert await child.wait() == 0; print({group})\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, start_new_session=True
    )
    assert [int(line) for line in run.stdout.split()] == [of_the_child, 0]


def test_serving_is_what_a_live_run_file_of_this_machine_says(tmp_path: Path) -> None:
    assert not serving(tmp_path)
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "generator.json"
    me = process_identity.own()
    file.write_text(json.dumps({"process": me}))
    assert serving(tmp_path)
    machine, pid, began = me.rsplit("/", 2)
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    for other in (
        f"{machine}/{ended.pid}/{began}",
        f"{machine}/{pid}/1.00",
        f"elsewhere-{machine}/{pid}/{began}",
        "?",
        7,
    ):
        file.write_text(json.dumps({"process": other}))
        assert not serving(tmp_path), other
    for torn in ("torn", "{}", "[]"):
        file.write_text(torn)
        assert not serving(tmp_path), torn


def test_a_process_counts_its_own_memory_and_not_what_its_parent_had_been() -> None:
    held = b"x" * GIB
    assert peak_memory_bytes() > len(held)
    line = "from tests.peak_memory import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True, cwd=ROOT)
    assert 0 < int(done.stdout) < GIB / 4


def test_what_a_process_holds_is_measured_and_at_most_once_a_second() -> None:
    now = 0.0
    resident = ResidentMemory(lambda: now)
    before = resident()
    held = b"x" * (GIB // 4)
    now = 0.9
    assert resident() == before
    now = 1.0
    assert resident() >= before + len(held) * 0.9
    del held
    now = 2.0
    assert resident() < before + GIB / 8
