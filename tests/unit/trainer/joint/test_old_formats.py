"""A job on the bank that an earlier release began ends with the bits of one that was never disturbed, or says why not."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.trainer import checkpoints, exports
from services.trainer.conduct import Refused
from services.trainer.joint.admitting import Admission
from services.trainer.joint.held import Held
from services.trainer.joint.member import Member
from services.trainer.joint.mismatching import Pairing
from services.trainer.joint.preparing import Ready
from services.trainer.peft_layout import WEIGHTS
from services.trainer.settings import Keep, Objective, Settings
from services.trainer.work import CHECKPOINTS, Line, Said, Work, WorkerOrder
from tests.unit.trainer.joint.company import PAIRS, PLAIN, Company, company, same
from tests.unit.trainer.joint.test_preparing import Encodes, prepared
from tests.unit.trainer.old_formats import write_joint

# Dropout: the generator's state counts, too.
SETTINGS = Settings(rank=4, alpha=8, batch_rows=2, epochs=3, learning_rate=1e-2, dropout=0.1, keep=Keep.LAST, seed=3)
BEST = replace(SETTINGS, keep=Keep.BEST, evaluation_steps=2)
# KTO of pairs, whose rows ask twice: so the pairings differ.
ROWS = {Objective.SUPERVISED: PLAIN, Objective.DPO: PAIRS, Objective.KTO: PAIRS}


def job_with(folder: Path, base: Path, settings: Settings) -> Held:
    """A job that has its order, and no checkpoint yet."""
    rows = folder.with_suffix(".jsonl")
    rows.write_text("")
    Work(str(base), "tiny", str(rows), settings, threads=1, data_dir=str(folder.parent)).write(folder)
    return Held("job", "t", folder, 1)


def admitted(own: Company, base: Path, job: Held, ready: Ready) -> list[Line]:
    """What is said when the job joins a bank."""
    assert ready.word is None
    assert ready.encoded is not None
    order = WorkerOrder(str(base), "tiny", "sha256:0", 1, "bfloat16", str(job.folder.parent), 1 << 30)
    return Admission(own.bank, own.base, order, lambda _: "").admit(job, ready.encoded, ready.found)


def begun(own: Company, settings: Settings) -> tuple[Member, Member]:
    """Two members of one job as earlier releases began it."""
    rows = ROWS[settings.objective]
    splits = own.splits(settings, rows, rows if settings.evaluation_steps else None)
    first = splits.paired(Pairing.ROW_BEFORE, settings.max_row_tokens)
    return own.begun(settings, first), own.begun(settings, first)


@pytest.mark.parametrize(
    ("number", "step", "settings"),
    [
        (1, 0, SETTINGS),
        (1, 5, SETTINGS),
        *(
            (number, 3, replace(settings, objective=objective))
            for number in (2, 3)
            for objective, settings in ((Objective.SUPERVISED, BEST), (Objective.DPO, SETTINGS), (Objective.KTO, BEST))
        ),
    ],
)
def test_a_job_goes_on_to_the_bits_that_it_would_have_had(
    tmp_path: Path, base: Path, number: int, step: int, settings: Settings
) -> None:
    own = company(base)
    undisturbed, broken = begun(own, settings)
    own.run(undisturbed)
    own.until_step(broken, step)
    job = job_with(tmp_path / "job", base, settings)
    write_joint(job.folder / CHECKPOINTS, number, broken)
    rows = ROWS[settings.objective]
    ready = prepared(Encodes(own.splits(settings, rows, rows if settings.evaluation_steps else None)), job)
    said = admitted(own, base, job, ready)
    assert ready.found is not None
    assert ready.found.checkpoint.format == number
    assert [line.progress.step for line in said if line.said is Said.STARTED] == [step]
    again = [(line.said, line.progress.step) for line in said if line.said in (Said.STEP, Said.EVALUATION)]
    # Only what was told is told again: by releases that remembered it.
    told = [(line.said, line.progress.step) for line in broken.remembered]
    assert again == (told if number == 3 else [])
    resumed = job.member
    assert resumed is not None
    own.run(resumed)
    assert same(resumed.result(), undisturbed.result())
    assert resumed.progress == undisturbed.progress
    assert resumed.history.evaluations == undisturbed.history.evaluations
    assert resumed.history.best_step == undisturbed.history.best_step


@pytest.mark.parametrize(
    ("number", "change", "why"),
    [
        (1, {"rank": 8}, r"\brank\b.*model\.layers\.0"),
        (1, {"epochs": 4}, r"\b12\b.*\b16\b"),
        (2, {"rank": 8}, r"\bweights\b"),
        (3, {"epochs": 4}, r"\b12\b.*\b16\b"),
    ],
)
def test_a_checkpoint_of_another_order_is_refused_with_the_reason(
    tmp_path: Path, base: Path, number: int, change: dict[str, int], why: str
) -> None:
    own = company(base)
    _, broken = begun(own, SETTINGS)
    own.until_step(broken, 2)
    settings = replace(SETTINGS, **change)  # type: ignore[arg-type]  # numbers of Settings
    job = job_with(tmp_path / "job", base, settings)
    write_joint(job.folder / CHECKPOINTS, number, broken)
    ready = prepared(Encodes(own.splits(settings, PLAIN)), job)
    with pytest.raises(Refused, match=why) as refused:
        admitted(own, base, job, ready)
    assert refused.value.reason == "SETTINGS_UNFIT"


def test_a_layer_that_the_first_format_lacks_is_named(tmp_path: Path, base: Path) -> None:
    own = company(base)
    fewer = replace(SETTINGS, target_modules=("q_proj",))
    _, broken = begun(own, fewer)
    own.until_step(broken, 1)
    job = job_with(tmp_path / "job", base, SETTINGS)
    write_joint(job.folder / CHECKPOINTS, 1, broken)
    ready = prepared(Encodes(own.splits(SETTINGS, PLAIN)), job)
    with pytest.raises(Refused, match=r"weight\.base_model\.model\..*k_proj\.lora_A"):
        admitted(own, base, job, ready)


def test_of_what_a_version_is_made_the_third_format_says_first(tmp_path: Path, base: Path) -> None:
    own = company(base)
    _, broken = begun(own, SETTINGS)
    own.until_step(broken, 2)
    found = {}
    for number in (1, 2, 3):
        write_joint(tmp_path / str(number), number, broken)
        found[number] = checkpoints.newest(tmp_path / str(number))
    assert all(checkpoint is not None for checkpoint in found.values())
    assert [bool(exports.exported(one)) for one in found.values() if one is not None] == [False, False, True]
    assert found[3] is not None
    exports.save(found[3], base, tmp_path)
    assert same(load_file(tmp_path / WEIGHTS), broken.slot.adapter())
