"""The demo's own judgement: what counts as done before, and what it prints."""

import dataclasses
import io
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console
from trivium_client.answers import Answer, Citation, Final, Receipt, Source, Usage
from trivium_client.nouns import Engine, Span

from gateway.asking.prompt import Quotation
from services.ops.demo import adapter, report
from services.ops.demo.adapter import SETTINGS, Swap
from services.ops.demo.roads import ROADS, Reply
from services.ops.demo.scoring import questions, score
from services.ops.demo.stages import Bar, Stages

SPAN = Span("handbook", "moorings.md", "f" * 64, 10, 52, "chunk", 1)
VERSION = "sha256:" + "a" * 64


def answer(text: str, source: str) -> Answer:
    receipt = Receipt(
        request_id="r", engine_build="vllm 0", engine="engine-0", engine_slot=0, base_digest="sha256:b", version=VERSION,
        requested_model="ferry-house", resolved_model="x", template_digest="", prompt_tokens_digest="", seed=0,
        temperature=0.0, max_tokens=48, sources=(SPAN,),
    )  # fmt: skip
    final = Final("stop", Usage(1, 1, 0), (), receipt, (Citation(1, 0, 3, SPAN),))
    return Answer(text, final, (Source(SPAN, "Moorings", (), source, 1.0),))


def engine(start_minute: int, restarts: int = 0) -> Engine:
    start = datetime(2026, 1, 1, 0, start_minute, tzinfo=UTC)
    return Engine("engine-0", "ready", "b", "base", "sha256:b", 4, 16, 2048, 0, 0, restarts, start)


def test_a_job_counts_as_done_before_only_with_the_recipes_own_settings() -> None:
    assert adapter.same_recipe(SETTINGS)
    assert not adapter.same_recipe(dataclasses.replace(SETTINGS, seed=1))
    assert not adapter.same_recipe(dataclasses.replace(SETTINGS, learning_rate=2e-3))
    assert not adapter.same_recipe(dataclasses.replace(SETTINGS, lora=dataclasses.replace(SETTINGS.lora, rank=8)))


class Jobs:
    """A job that trains behind others and then takes its step; `told` is what the bar said at each moment."""

    bar: Bar

    def __init__(self) -> None:
        self.told: list[str] = []
        self.job = SimpleNamespace(
            job="j", state="running", step=0, total_steps=100, waiting_reason="", error="", model="ferry-house"
        )

    async def watch(self, job: str, stands: Callable[[Any], None]) -> AsyncIterator[Any]:
        for why in ("", "others train"):
            self.job.waiting_reason = why
            stands(self.job)
            self.told.append(self.bar.told)
        self.job.state = "succeeded"
        yield SimpleNamespace(kind="step", step=1, total_steps=100, loss=0.5)
        self.told.append(self.bar.told)

    async def get(self, job: str) -> Any:
        return self.job


async def test_while_no_step_is_taken_the_bar_says_why() -> None:
    stages, jobs = Stages(Console(file=io.StringIO())), Jobs()
    with stages.stage("train", total=100) as jobs.bar:
        client = cast(Any, SimpleNamespace(jobs=jobs))
        await adapter.train(client, cast(Any, None), cast(Any, jobs.job), stages, jobs.bar)
    assert jobs.told == ["0 of 100, waiting for the next step", "0 of 100, others train", "1 of 100, loss 0.500"]


def test_an_engine_that_started_anew_is_called_restarted() -> None:
    assert not Swap("", VERSION, engine(1), engine(1)).restarted
    assert Swap("", VERSION, engine(1), engine(2)).restarted
    assert Swap("", VERSION, engine(1), engine(1, restarts=1)).restarted


def test_the_report_shows_answers_side_by_side_with_versions_citations_and_the_score() -> None:
    question = questions()[0]
    text, source = (
        '{"queue": "hull-shed", "answer": "K14", "source": "[1]"}',
        "The Sedgebird lies at berth K14 at night.",
    )
    given = score(question, text, [Quotation("Moorings", source)])
    replies = [
        Reply(road, question, answer(text, source), 0.5, given, answer(text, source).sources if road.retrieves else ())
        for road in ROADS
    ]
    shown = io.StringIO()
    stages = Stages(Console(file=shown, width=140))
    report.show(stages, [question], replies, Swap("", VERSION, engine(1), engine(1)))
    lines = shown.getvalue().splitlines()
    assert any(line.startswith("1. Which berth does the Sedgebird") for line in lines)
    assert sum(text in line for line in lines) == len(ROADS)
    assert sum("<- moorings.md 10-52 of version ffffffffffff" in line for line in lines) == 2
    assert any(VERSION in line for line in lines)
    assert any(line.startswith("RAG over adapter") and "1/1" in line for line in lines)


def lines_of_a_stage(console: Console, shown: io.StringIO) -> list[str]:
    stages = Stages(console, tell_seconds=0.02)
    # What a log is told comes from a thread; on a terminal nothing may come, which only time can show.
    with stages.stage("train while serving") as bar:
        until = time.monotonic() + 10
        while "train while serving (" not in shown.getvalue() and not console.is_terminal and time.monotonic() < until:
            time.sleep(0.01)
        bar.at(40, 100, "loss 0.512")
        until = time.monotonic() + (10 if not console.is_terminal else 0.1)
        while "40 of 100" not in shown.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    return shown.getvalue().splitlines()


def test_a_long_stage_tells_a_log_how_far_it_is() -> None:
    shown = io.StringIO()
    lines = lines_of_a_stage(Console(file=shown, width=120), shown)
    assert lines[0].startswith("  train while serving (")
    assert any(line.startswith("  train while serving: 40 of 100, loss 0.512 (") for line in lines)
    assert lines[-1].startswith("train while serving ")
    # Five times the interval: the thread that tells has ended with the stage.
    time.sleep(0.1)
    assert shown.getvalue().splitlines() == lines


def test_on_a_terminal_the_bar_alone_moves() -> None:
    shown = io.StringIO()
    assert not any("so far" in line for line in lines_of_a_stage(Console(file=shown, force_terminal=True), shown))
