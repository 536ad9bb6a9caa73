"""From OpenAI's request to the trainer's order."""

import pytest

from gateway.fine_tuning.order import Asked, Hyperparameters, Method, model_name
from services.chassis.errors import Failure, Reason, Violation
from tests.unit.gateway.fine_tuning.fakes import World


def asked(**fields: object) -> Asked:
    return Asked(**{"model": "base", "training_file": "file-a", "suffix": "desk", **fields})  # type: ignore[arg-type]  # by the test


async def test_a_job_is_ordered_on_the_bytes_of_its_file_and_told_as_it_was_asked(world: World) -> None:
    wanted = asked(
        suffix="Help Desk!",
        seed=7,
        metadata={"team": "boats", "empty": ""},
        hyperparameters=Hyperparameters(2, 4),
        alias="prod",
        request_id="6f8d0b0e-0f0f-4a7e-9d30-1b1b1b1b1b1b",
    )
    job = await world.tuner.create(wanted)
    (order,) = world.trainer.orders
    assert world.datasets.taken == [("file-a.jsonl", 17, "digest-of-file-a", b'{"messages": []}\n')]
    assert (order.model, order.dataset, order.base) == ("help-desk", "sha256:digest-of-file-a", "base")
    assert order.settings == {"objective": "OBJECTIVE_SUPERVISED", "epochs": 2, "batch_rows": 4, "seed": 7}
    assert (order.alias, order.request_id) == ("prod", wanted.request_id)
    assert (job.training_file, job.validation_file, job.model, job.suffix) == ("file-a", "", "base", "Help Desk!")
    assert (job.status, job.seed, job.tenant) == ("queued", 7, "acme")
    assert job.metadata == {"team": "boats", "empty": ""}
    assert job.hyperparameters == Hyperparameters(2, 4, 1.0)


async def test_a_file_is_sent_once_however_many_jobs_learn_from_it(world: World) -> None:
    world.files.put("file-v", b"{}")
    for _ in range(2):
        await world.tuner.create(asked(validation_file="file-v"))
    assert [taken[0] for taken in world.datasets.taken] == ["file-a.jsonl", "file-v.jsonl"]
    assert {order.validation_dataset for order in world.trainer.orders} == {"sha256:digest-of-file-v"}


@pytest.mark.parametrize(
    ("model", "base", "ordered"),
    [
        ("base", "", ("base", "")),
        ("base:house", "", ("base:house", "")),
        ("desk", "", ("", "sha256:aa")),
        ("desk", "base:house", ("base:house", "sha256:aa")),
        ("whole", "", ("base:whole@2", "")),
    ],
)
async def test_what_a_model_name_means_is_begun_from(
    world: World, model: str, base: str, ordered: tuple[str, str]
) -> None:
    job = await world.tuner.create(asked(model=model, base=base))
    (order,) = world.trainer.orders
    assert (order.base, order.start_version) == ordered
    assert job.model == model


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "finder"}, "model"),
        ({"model": "auto"}, "model"),
        ({"base": "base:house"}, "base"),
        ({"suffix": "!!"}, "suffix"),
        ({"suffix": "Base"}, "suffix"),
        ({"training_file": "file-b"}, "training_file"),
        ({"validation_file": "file-b"}, "validation_file"),
        ({"hyperparameters": Hyperparameters(beta=0.2)}, "hyperparameters.beta"),
        ({"settings": {"objective": "OBJECTIVE_KTO"}}, "settings.objective"),
        ({"settings": {"epochs": 2}, "hyperparameters": Hyperparameters(n_epochs=3)}, "settings.epochs"),
        ({"settings": {"batch_rows": 2}, "hyperparameters": Hyperparameters(batch_size=3)}, "settings.batch_rows"),
        ({"settings": {"seed": "1"}, "seed": 1}, "settings.seed"),
        (
            {"settings": {"learning_rate": 0.1}, "hyperparameters": Hyperparameters(learning_rate_multiplier=1.0)},
            "settings.learning_rate",
        ),
        (
            {"hyperparameters": Hyperparameters(learning_rate_multiplier=1000.1)},
            "hyperparameters.learning_rate_multiplier",
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_name_and_nothing_is_queued(
    world: World, fields: dict[str, object], field: str
) -> None:
    world.files.put("file-b", b"{}", trainable=False)
    with pytest.raises(Failure) as refused:
        await world.tuner.create(asked(**fields))
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, field)
    assert world.trainer.orders == []


async def test_a_multiplier_is_of_the_rate_that_the_trainer_would_choose(world: World) -> None:
    job = await world.tuner.create(asked(hyperparameters=Hyperparameters(learning_rate_multiplier=0.5)))
    assert world.trainer.orders[0].settings["learning_rate"] == pytest.approx(0.0005)
    assert job.hyperparameters.learning_rate_multiplier == 0.5


async def test_pairs_are_learned_from_with_their_beta(world: World) -> None:
    wanted = asked(
        method=Method.DPO, hyperparameters=Hyperparameters(beta=0.3), settings={"preference": {"label_smoothing": 0.1}}
    )
    job = await world.tuner.create(wanted)
    assert world.trainer.orders[0].settings == {
        "objective": "OBJECTIVE_DPO",
        "preference": {"label_smoothing": 0.1, "beta": 0.3},
    }
    assert (job.method, job.hyperparameters.beta) == (Method.DPO, 0.3)


async def test_rows_that_cannot_be_trained_on_are_told_as_a_fault_of_their_file(world: World) -> None:
    lines = [Violation("line 2, messages", "nothing to learn")]
    world.datasets.refuses = Failure(Reason.DATASET_MALFORMED, violations=lines, count=1, what="1 row is bad; line 2")
    with pytest.raises(Failure) as refused:
        await world.tuner.create(asked())
    assert (refused.value.reason, refused.value.field) == (Reason.DATASET_MALFORMED, "training_file")
    assert "line 2" in refused.value.sentence
    assert list(refused.value.violations) == lines


async def test_what_is_not_of_the_rows_passes_as_it_is(world: World) -> None:
    world.datasets.refuses = Failure(Reason.PEER_UNAVAILABLE, service="trainer")
    with pytest.raises(Failure) as refused:
        await world.tuner.create(asked())
    assert (refused.value.reason, refused.value.field) == (Reason.PEER_UNAVAILABLE, None)


def test_a_model_without_a_suffix_is_a_new_one() -> None:
    assert model_name("", "0a1b2c") == "ft-0a1b2c"
    assert model_name("Straße 7 / v1.2", "") == "stra-e-7-v1.2"
    assert model_name("x" * 64, "") == "x" * 63


async def test_every_job_without_a_suffix_has_a_model_of_its_own(world: World) -> None:
    tuner = world.tuner
    for _ in range(2):
        await tuner.create(asked(suffix=""))
    first, second = (order.model for order in world.trainer.orders)
    assert first != second
