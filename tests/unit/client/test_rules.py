"""What is said against the contract is refused before a file is sent, in words and by the option that says it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trivium_client import InvalidRequestError, Trivium
from trivium_client.cli.main import _complain, app
from trivium_client.cli.rules import check_name, out_of_bounds
from trivium_client.cli.settings_text import setting_names
from trivium_client.cli.training_options import Options, fields_of, option_of, with_options
from trivium_client.errors import FieldViolation
from trivium_client.nouns import LoraSettings, PreferenceSettings, TrainingSettings
from typer.testing import CliRunner

from tests.harness.wording import missing


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(rank=100_000), ("--rank", "1", "512", "100000")),
        (Options(dropout=1.0), ("--dropout", "0", "below 1", "1.0")),
        (Options(learning_rate=0.0), ("--learning-rate", "above 0", "1", "0.0")),
        (Options(early_stopping=2000), ("--early-stopping", "1", "1000", "2000")),
        (Options(settings=["preference.beta=11"]), ("--set preference.beta", "above 0", "10", "11.0")),
        (Options(settings=["max_steps=20000000"]), ("--set max_steps", "1", "10000000")),
        (Options(alias="Prod"), ("Prod", "alias", "32")),
    ],
)
def test_a_number_or_a_name_that_the_contract_forbids_is_refused_with_what_it_allows(
    options: Options, named: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=named[0]) as refused:
        fields_of(options)
    assert not missing(str(refused.value), *named)


def test_what_the_contract_allows_passes() -> None:
    ends = TrainingSettings(
        epochs=1000,
        learning_rate=1.0,
        packing=True,
        keep="last",
        lora=LoraSettings(rank=512, layers=(0, 3), rank_pattern={"q_proj": 4}),
        preference=PreferenceSettings(label_smoothing=0.0),
    )
    assert out_of_bounds(TrainingSettings()) == out_of_bounds(ends) == {}
    assert set(out_of_bounds(replace(ends, epochs=1001, lora=LoraSettings(rank=0)))) == {"epochs", "lora.rank"}
    for name in ("desk", "desk.v2-a", "1", "a" * 63):
        check_name("model", name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("Bad Name", "bad-name"), ("base", "platform"), ("a" * 64, "63"), ("-", "'-'")],
)
def test_a_model_that_can_have_no_such_name_is_told_one_before_a_file_is_sent(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(client: Trivium) -> Trivium:
        raise AssertionError("nothing is sent")

    monkeypatch.setattr(Trivium, "__enter__", never)
    file = tmp_path / "pairs.jsonl"
    file.write_text("{}")
    swept = ["--try", "lora.rank=2,4", "--validation-ratio", "0.1"]
    for words in (["run", str(file)], ["start", "pairs"], ["sweep", str(file), *swept]):
        ran = CliRunner().invoke(app, ["train", *words, "-m", name])
        assert isinstance(ran.exception, ValueError)
        assert said in str(ran.exception)


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("job.settings.validation_ratio", "--validation-ratio"),
        ("settings.lora.rank", "--rank"),
        ("settings.lora.layers[3]", "--layers"),
        ("settings.weight_decay", "--set weight_decay=VALUE"),
        ("depends_on[0]", "--after"),
        ("start_version", "--from"),
        ("job.model", "--model"),
        ("rungs", ""),
    ],
)
def test_a_field_that_is_refused_is_known_by_its_option(field: str, option: str) -> None:
    assert option_of(field) == option


def test_every_setting_is_said_by_an_option() -> None:
    assert all(option_of(f"settings.{name}").startswith("--") for name in setting_names())


def test_a_refusal_of_the_trainers_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    @with_options
    def refused(*, options: Options) -> None:
        violations = (FieldViolation("settings.lora.rank", "is high"), FieldViolation("rungs", "must ascend"))
        raise InvalidRequestError("Refused.", violations=violations)

    given: dict[str, Any] = {name: getattr(Options(), name) for name in Options.__dataclass_fields__}
    with pytest.raises(InvalidRequestError) as raised:
        refused(**given)
    _complain(raised.value)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "trivium: Refused.",
        "  settings.lora.rank: is high",
        "  rungs: must ascend",
        "  settings.lora.rank is --rank here",
    ]
