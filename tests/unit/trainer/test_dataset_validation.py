import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path

from services.chassis.errors import Reason
from services.chassis.streams import Piece
from services.trainer.data.checker import Checker
from services.trainer.data.checking import MAX_KEPT_PROBLEMS
from services.trainer.data.checking_child import Problems
from services.trainer.data.dataset_rows import Incoming
from services.trainer.data.datasets import Datasets
from services.trainer.data.report import Asked
from services.trainer.data.rows import Problem
from tests.unit.trainer.checks import until_one
from tests.unit.trainer.dataset_uploads import (
    DAY,
    INCOMING,
    opened,
    refused,
    whole,
)


async def test_a_dataset_that_is_deleted_while_it_is_validated_disturbs_nothing(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    validating = asyncio.create_task(datasets.validate("acme", stored.dataset, "", "", Asked(max_row_tokens=8)))
    await until_one()
    await datasets.delete("acme", stored.dataset)
    found, base_name, report, problems, count = await validating
    assert (found, base_name, report.rows) == (stored, "tiny", 10)
    assert len(problems) == count > 10


BAD = b'{"prompt": "a"}\n' * 2500


async def test_all_problems_of_a_refused_file_are_listed_by_pages_under_its_digest(tmp_path: Path, base: Path) -> None:
    sha256 = hashlib.sha256(BAD).hexdigest()

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, BAD)

    async with opened(tmp_path, Checker(base), max_bytes=len(BAD)) as datasets:
        bad = replace(INCOMING, size_bytes=len(BAD), sha256=sha256)
        failure = await refused(datasets.upload("acme", bad, chunks()))
        assert (failure.reason, len(failure.violations)) == (Reason.DATASET_MALFORMED, 20)
        lines: list[int] = []
        place = ""
        while not lines or place:
            page, place = await datasets.problems("acme", f"sha256:{sha256}", 1000, place)
            lines.extend(problem.line for problem in page)
        assert lines == list(range(1, 2501))
        missing = await refused(datasets.problems("other", f"sha256:{sha256}", 1000, ""))
        assert missing.reason is Reason.DATASET_REPORT_NOT_FOUND
        await datasets.sweep(time.time() + DAY)
        missing = await refused(datasets.problems("acme", f"sha256:{sha256}", 1000, ""))
        assert missing.reason is Reason.DATASET_REPORT_NOT_FOUND


async def test_what_the_default_base_refuses_is_stored_and_warned_of_and_stays_a_problem_of_a_check(
    tmp_path: Path, base: Path
) -> None:
    refusing = shutil.copytree(base, tmp_path / "refusing")
    (refusing / "chat_template.jinja").write_text("{{ raise_exception('no turns of anybody') }}")
    heard: list[Problem] = []
    async with opened(tmp_path, Checker(refusing)) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole(), heard.extend)
        assert stored.rows == len(heard) == 10
        assert {problem.fatal for problem in heard} == {False}
        assert await datasets.problems("acme", "rows", 1000, "") == (heard, "")
        *_, problems, count = await datasets.validate("acme", "rows", "", "", Asked())
    assert count == 11
    assert problems[0].fatal
    assert "no turns of anybody" in problems[0].message


def test_a_fault_is_named_however_many_rows_before_it_are_warned_of() -> None:
    said: list[dict[str, object]] = []
    problems = Problems(said.append)
    for line in range(MAX_KEPT_PROBLEMS + 1):
        problems.take(Problem(line, "messages", "of another base", fatal=False))
    problems.take(Problem(200_000, "", "not JSON"))
    problems.end()
    told = "there are 100001 warnings up to this line, of which the first 100000 are listed; mend these and check again"
    unsaid = Problem(MAX_KEPT_PROBLEMS, "", told, fatal=False)
    assert said[-1] == {"problems": [asdict(Problem(200_000, "", "not JSON")), asdict(unsaid)]}


async def test_what_a_validation_said_of_lines_is_listed_under_the_name(datasets: Datasets) -> None:
    await datasets.upload("acme", INCOMING, whole())
    assert (await refused(datasets.problems("acme", "rows", 10, ""))).reason is Reason.DATASET_REPORT_NOT_FOUND
    *_, problems, count = await datasets.validate("acme", "rows", "", "", Asked())
    assert await datasets.problems("acme", "rows", 1000, "") == (problems, "")
    assert len(problems) == count == 5


async def test_a_dataset_to_evaluate_on_is_compared_with_and_must_be_of_the_same_format(datasets: Datasets) -> None:
    texts = b'{"text": "Once."}\n'

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, texts)

    await datasets.upload("acme", INCOMING, whole())
    await datasets.upload(
        "acme", Incoming("texts", "t.jsonl", len(texts), hashlib.sha256(texts).hexdigest(), 0, None), chunks()
    )
    failure = await refused(datasets.validate("acme", "rows", "texts", "", Asked()))
    assert "texts is text, rows is prompt_completion" in failure.sentence
    _, _, report, *_ = await datasets.validate("acme", "rows", "rows", "", Asked())
    assert report.shared_rows == 10


async def test_rows_are_previewed_as_they_are_trained_on(datasets: Datasets) -> None:
    await datasets.upload("acme", INCOMING, whole())
    rows, following = await datasets.preview("acme", "rows", "", Asked(), 1, 2)
    assert ([row.line for row in rows], following) == ([2, 3], 3)
    assert "".join(text for text, supervised in rows[0].tokens if supervised) == "The night watch has it.<|im_end|>"
