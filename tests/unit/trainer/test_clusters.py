"""What people are told when a cluster is not there, is not whole, or is asked for where there is none."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.trainer.config import TrainerSettings
from services.trainer.executors.cluster.connection import NoCluster, connected
from services.trainer.executors.cluster.node import NodeHost
from services.trainer.executors.executor import Training
from services.trainer.executors.local import Machine
from services.trainer.executors.ray import unlike
from services.trainer.planning import Allowance, gang_unfit, unfit
from services.trainer.scheduling.state import Node
from services.trainer.settings import Method, Settings
from services.trainer.work import Work
from tests.unit.trainer.test_jobs import ORDER

GANG = replace(ORDER, settings=Settings(method=Method.FULL), processes=2, job_bytes=4 << 30, threads=2)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[NodeHost]:
    """A machine's part, without Ray."""
    machine = Machine("one", "us", memory_bytes=1 << 30, cores=1, stop_seconds=1.0, idle_seconds=1.0)
    host = await asyncio.to_thread(NodeHost, tmp_path / "workers", machine)
    yield host
    await asyncio.to_thread(host.end, 1.0)


async def refused(address: str) -> str:
    with pytest.raises(NoCluster) as refusal:
        async with connected(address):
            pass
    return str(refusal.value)


async def test_an_address_where_nothing_answers_is_named_with_what_to_do() -> None:
    said = await refused("127.0.0.1:1")
    assert "nothing answers at 127.0.0.1:1" in said
    assert "TRIVIUM_TRAINER_RAY_ADDRESS" in said
    assert "ray start --head" in said


async def test_where_ray_is_not_installed_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "trivium-suite[cluster]" in await refused("127.0.0.1:1")


@pytest.mark.parametrize("address", ["", "head"])
def test_a_cluster_without_an_address_is_refused_when_settings_are_read(address: str) -> None:
    with pytest.raises(ValidationError, match="TRIVIUM_TRAINER_RAY_ADDRESS"):
        TrainerSettings(executor="ray", ray_address=address)


def test_a_machine_that_sees_other_folders_or_has_other_code_is_refused_with_what_differs(
    host: NodeHost, tmp_path: Path
) -> None:
    word = tmp_path / "word"
    word.write_text("said")
    facts = host.facts(word)
    assert unlike(facts, "said", tmp_path) == ""
    assert "TRIVIUM_DATA_DIR" in unlike(host.facts(tmp_path / "elsewhere"), "said", tmp_path)
    other = unlike(replace(facts, made_of={**facts.made_of, "torch": "1.0"}), "said", tmp_path)
    assert "torch 1.0 instead of" in other


def test_a_machine_that_would_compute_other_bits_is_refused_with_what_differs(
    host: NodeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = tmp_path / "word"
    word.write_text("said")
    facts = host.facts(word)
    least = "avx2" if "avx2" in facts.instructions else min(facts.instructions)
    lesser = replace(facts, instructions=facts.instructions - {least})
    assert f"a processor of other instructions (no {least})" in unlike(lesser, "said", tmp_path)
    greater = replace(facts, instructions=facts.instructions | {"avx1024"})
    assert "a processor of other instructions (avx1024)" in unlike(greater, "said", tmp_path)
    # A machine without a compiler, and nothing compiled yet: the bank computes with torch there.
    monkeypatch.setenv("TRIVIUM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/nowhere")
    bare = host.facts(word)
    monkeypatch.undo()
    assert "kernels not compiled for want of g++ instead of compiled" in unlike(bare, "said", tmp_path)


def test_a_machine_that_lacks_a_jobs_files_says_which(host: NodeHost, tmp_path: Path) -> None:
    base, rows = tmp_path / "base", tmp_path / "rows.jsonl"
    base.mkdir()
    work = Work(str(base), "tiny", str(rows), Settings(), threads=1, data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"rows\.jsonl\b.*\bone\b.*TRIVIUM_MODEL_CACHE_DIR"):
        host.start(Training("acme", "job", 1, tmp_path, work, None, ("one",)))


def test_a_machine_has_no_more_than_it_and_ray_say(host: NodeHost, tmp_path: Path) -> None:
    facts = host.facts(tmp_path / "word")
    assert facts.cores == 1
    assert 0 < facts.memory_bytes <= 1 << 30


def test_several_processes_are_refused_for_what_trains_in_one_and_where_there_is_one_machine() -> None:
    nodes = [Node("a", 16 << 30, 2)]
    assert "leave it out" in unfit(GANG, nodes, Allowance())
    assert "TRIVIUM_TRAINER_EXECUTOR=ray" in gang_unfit(GANG, gangs=False)
    assert "dora trains in one" in gang_unfit(replace(GANG, settings=Settings(method=Method.DORA)), gangs=True)
    assert gang_unfit(replace(GANG, processes=1), gangs=False) == ""


def test_more_processes_than_all_machines_have_room_for_are_refused_with_the_arithmetic() -> None:
    nodes = [Node("a", 16 << 30, 2), Node("b", 16 << 30, 2)]
    assert unfit(GANG, nodes, Allowance(), gangs=True) == ""
    said = unfit(replace(GANG, processes=3), nodes, Allowance(), gangs=True)
    assert "it wants 3 processes of 4.0 GiB and 2 threads each" in said
    assert "room for 2" in said
