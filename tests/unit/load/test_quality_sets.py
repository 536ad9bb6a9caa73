"""The public sets are read as their files are, and split so that no row that is asked was trained on."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from tests.load.finetune_quality.sets import SETS

INTENTS = ("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook", "SearchWork", "SearchScreening")
AREAS, FOODS = ("riverside", "city centre"), ("French", "Chinese", "Italian", "Indian", "English")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of the sets' own forms."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("ft-banking77", "ft-snips", "ft-e2e-nlg", "pref-persona"):
        (folder / name).mkdir()
    _table(
        folder / "ft-banking77" / "train.csv", ["text", "category"], [(f"my card {n}", f"c{n % 3}") for n in range(60)]
    )
    # Of the test part one message stands in the train part, too.
    tested = [(f"a card {n}", f"c{n % 3}") for n in range(40)] + [("My card 3!", "c0")]
    _table(folder / "ft-banking77" / "test.csv", ["text", "category"], tested)
    for intent in INTENTS:
        commands = [_command(f"café {intent} {n}", n) for n in range(12)]
        text = json.dumps({intent: commands}, ensure_ascii=False)
        coded = text.encode("latin-1" if intent == "PlayMusic" else "utf-8")
        (folder / "ft-snips" / f"train_{intent}_full.json.gz").write_bytes(gzip.compress(coded))
    places = [f"name[Inn {n}], food[{FOODS[n % 5]}], area[{AREAS[n % 2]}]" for n in range(30)]
    _table(folder / "ft-e2e-nlg" / "trainset.csv", ["mr", "ref"], [(place, f"It  is {place}") for place in places] * 2)
    # The first of these places is in both parts.
    _table(
        folder / "ft-e2e-nlg" / "devset.csv", ["mr", "ref"], [(place, "So.") for place in [*places[:1], "name[Ox]"] * 2]
    )
    for name in ("trainset", "devset"):
        path = folder / "ft-e2e-nlg" / f"{name}.csv"
        path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("agreeableness", "conscientiousness", "openness", "risk-averse"):
        text = "".join(_statement(name, n) for n in range(40))
        (folder / "pref-persona" / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def _table(path: Path, header: list[str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _command(text: str, number: int) -> dict[str, object]:
    pieces: list[dict[str, str]] = [{"text": f"{text} in "}, {"text": f"town {number} ", "entity": "city"}]
    if number == 0:
        pieces += [{"text": "and "}, {"text": "village", "entity": "city"}]
    return {"data": pieces}


def _statement(name: str, number: int) -> str:
    yes, no = (" Yes", " No") if number % 2 else (" No", " Yes")
    fields = {"question": f"{name} {number}?", "answer_matching_behavior": yes, "answer_not_matching_behavior": no}
    return json.dumps(fields) + "\n"


@pytest.mark.parametrize("name", SETS)
def test_no_text_is_in_two_splits(data: Path, name: str):
    task = SETS[name](data, 0.005, 0)
    splits = [{row.key for row in rows} for rows in (task.training, task.validation, task.test)]
    assert all(splits)
    assert sum(map(len, splits)) == len(set().union(*splits))
    assert set(task.shots) <= set(task.training)
    assert SETS[name](data, 0.005, 0) == task
    assert SETS[name](data, 0.005, 1) != task


def test_an_intent_has_as_many_messages_as_every_other(data: Path):
    task = SETS["banking77"](data, 0.4, 0)
    assert [sum(row.answer == label for row in task.training) for label in ("c0", "c1", "c2")] == [4, 4, 4]
    assert "c0, c1, c2" in task.told
    assert "c0" not in task.instruction


def test_slots_are_told_as_json_in_one_spelling(data: Path):
    task = SETS["snips_slots"](data, 0.05, 0)
    rows = {row.text: row.answer for row in (*task.training, *task.validation, *task.test)}
    once = {answer for text, answer in rows.items() if text.startswith("café PlayMusic") and text.endswith("town 3")}
    twice = {answer for text, answer in rows.items() if text.endswith("town 0 and village")}
    assert once == {'{"city": "town 3"}'}
    assert twice == {'{"city": ["town 0", "village"]}'}


def test_pairs_have_the_better_answer_first(data: Path):
    task = SETS["persona"](data, 0.01, 0)
    assert task.pairs
    assert {(row.answer, row.rejected) for row in task.training} == {("Yes", "No"), ("No", "Yes")}
    assert all((int(row.text.split()[1][:-1]) % 2 == 1) == (row.answer == "Yes") for row in task.training)


def test_the_fingerprint_tells_rows_apart(data: Path):
    one, other = (SETS["persona"](data, 0.01, seed) for seed in (0, 1))
    assert one.fingerprint != other.fingerprint
    assert SETS["persona"](data, 0.01, 0).fingerprint == one.fingerprint


def test_a_place_is_described_once_in_one_line_and_not_asked_again(data: Path):
    task = SETS["e2e"](data, 0.005, 0)
    learned = [*task.training, *task.validation]
    assert len({row.text for row in learned}) == len(learned)
    assert all(row.answer == f"It is {row.text}" for row in learned)
    assert "name[Inn 0], food[French], area[riverside]" not in {row.text for row in learned}
