"""What `trivium train sweep` searches over, and how it tells of the members."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from trivium.trainer.v1 import training_pb2
from trivium_client.cli.main import app
from trivium_client.cli.sweeping import axes_in, axes_of, lines_of, standing
from trivium_client.cli.training_run import sweep_lines
from trivium_client.job_wire import sweep as from_wire
from trivium_client.nouns import Sweep, SweepAxis, SweepEstimate, SweepRange
from typer.testing import CliRunner

from tests.harness.wording import missing


def member(job: str, rank: int, rate: str, **fields: Any) -> training_pb2.SweepMember:
    return training_pb2.SweepMember(job=job, rank=rank, values={"learning_rate": rate}, **fields)


def swept(**fields: Any) -> Sweep:
    """A sweep of two, of which the second was ended at its first rung."""
    table = [
        member("a", 1, "3e-4", step=8, evaluation={"loss": 1.25}, state=training_pb2.JOB_STATE_SUCCEEDED),
        member("b", 2, "1e-4", step=4, ended_at_rung=1, state=training_pb2.JOB_STATE_CANCELLED),
    ]
    jobs = [training_pb2.Job(job=job, model="desk", total_steps=8) for job in ("a", "b")]
    found = from_wire(
        training_pb2.Sweep(sweep="s", state=training_pb2.SWEEP_STATE_RUNNING, table=table, members=jobs, best="a")
    )
    return replace(found, **fields)


def test_values_stand_behind_commas_and_one_setting_may_be_said_in_pieces() -> None:
    found = axes_of(["learning_rate=1e-4, 3e-4", "lora.rank=8", "lora.rank=16"])
    assert found == [SweepAxis("learning_rate", ("1e-4", "3e-4")), SweepAxis("lora.rank", ("8", "16"))]


def test_of_a_setting_that_takes_names_each_saying_is_one_value() -> None:
    (found,) = axes_of(["lora.target_modules=q_proj,v_proj", "lora.target_modules=q_proj"])
    assert found.values == ("q_proj,v_proj", "q_proj")


def test_a_range_is_drawn_from_evenly_or_in_the_logarithm() -> None:
    assert axes_of(["learning_rate=1e-5..1e-3:log", "lora.dropout=0..0.2"]) == [
        SweepAxis("learning_rate", range=SweepRange(1e-5, 1e-3, logarithmic=True)),
        SweepAxis("lora.dropout", range=SweepRange(0.0, 0.2)),
    ]


@pytest.mark.parametrize("said", ["learning_rate", "learning_rate=", "learning_rate=1..x", "learning_rate=1..2:exp"])
def test_what_is_no_axis_is_wrong_usage(said: str) -> None:
    with pytest.raises(typer.BadParameter):
        axes_of([said])


def test_a_setting_that_is_none_names_what_is_like_it() -> None:
    with pytest.raises(ValueError, match=r"learning_rat\b.* learning_rate\b"):
        axes_of(["learning_rat=1"])


def test_a_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "axes.json"
    rate = {"low": 1e-5, "high": 1e-3, "logarithmic": True}
    file.write_text(
        json.dumps({"lora.rank": [8, 16], "packing": [True], "lora.layers": [[0, 1], [1]], "learning_rate": rate})
    )
    assert axes_in(file) == [
        SweepAxis("lora.rank", ("8", "16")),
        SweepAxis("packing", ("true",)),
        SweepAxis("lora.layers", ("0,1", "1")),
        SweepAxis("learning_rate", range=SweepRange(1e-5, 1e-3, logarithmic=True)),
    ]
    for wrong in ("[]", "{", '{"lora.rank": 8}', '{"lora.rank": {"low": 1}}'):
        file.write_text(wrong)
        with pytest.raises(typer.BadParameter):
            axes_in(file)


def test_the_table_has_a_line_for_each_member_the_best_first() -> None:
    best, worse = lines_of(swept())
    assert (best.place, best.job, best.state, best.step) == ("1", "a", "succeeded", "8/8")
    assert (best.values, best.evaluation) == ("learning_rate=3e-4", "loss 1.25")
    assert (worse.place, worse.state, worse.step) == ("2", "ended at rung 1", "4/8")


def test_the_end_names_the_version_and_what_was_best() -> None:
    assert not missing(standing(swept()), "s", "running", "2 of 2")
    done = standing(swept(state="succeeded", version="sha256:1"))
    assert not missing(done, "desk", "sha256:1", "learning_rate=3e-4", "loss 1.25")
    failed = standing(swept(state="failed", best="", message="no member came to an end"))
    assert not missing(failed, "s", "failed", "no member came to an end")


def test_an_estimate_tells_what_all_members_take_and_what_one_needs() -> None:
    cost = SweepEstimate(8, 140, 14000, 90.0, True, 3 << 30, 1 << 30, 19 << 20, True, ("rank 64 is high",))
    work, memory, weights, warning = sweep_lines(cost)
    assert not missing(work, "8", "140", "14000", "1:30")
    assert not missing(memory, "3.0 GiB", "1.0 GiB")
    assert not missing(weights, "19 MiB")
    assert warning == "warning: rank 64 is high"
    rough = sweep_lines(replace(cost, measured=False, fits=False))
    assert not missing(rough[0], "rough")
    assert len(rough) == 5
    assert "fit" in rough[-1]


def test_a_search_that_compares_its_members_on_nothing_is_told_the_options(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}")
    for words in ([str(file)], ["desk-pairs", "-m", "desk", "--validation-ratio", "0"]):
        ran = CliRunner().invoke(
            app, ["train", "sweep", *words, "--try", "learning_rate=1e-4,3e-4"], env={"COLUMNS": "200"}
        )
        assert ran.exit_code == 2
        assert "--validation-ratio 0.1" in ran.output
        assert "--validation DATASET" in ran.output
        assert not ran.stdout


def test_a_search_over_nothing_and_one_for_no_model_are_wrong_usage() -> None:
    for words in (["desk-pairs", "-m", "desk"], ["desk-pairs", "--try", "lora.rank=8,16"]):
        ran = CliRunner().invoke(app, ["train", "sweep", *words], env={"COLUMNS": "200"})
        assert ran.exit_code == 2, ran.output
