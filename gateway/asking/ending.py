"""The end of an answer with sources, put together from what its stages came to."""

from dataclasses import replace

from gateway.asking.question import Answer, Question, Sources
from gateway.asking.release import Checked
from gateway.asking.stages import Stages
from gateway.generation import Generated


def answer(end: Generated, checked: Checked, told: Sources, prompt_format: str) -> Answer:
    """The end of a generation with what was found out about its text."""
    return Answer(
        end,
        checked.verified.citations,
        checked.verified.unresolved_markers,
        told,
        checked.sentences,
        checked.quotes,
        prompt_format=prompt_format,
    )


def ended(question: Question, answer: Answer, stages: Stages) -> Answer:
    """The answer with what its stages came to.  The generator's own are in its timings."""
    stages.end(stages.watch.timings)
    end = replace(answer.end, timings=stages.watch.timings)
    reports = stages.whole if question.explain else ()
    return replace(answer, end=end, fallbacks=(*answer.end.fallbacks, *stages.fallbacks), stages=reports)
