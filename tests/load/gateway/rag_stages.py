"""The stages of an answer as both sides of the part ``rag`` have them, so that its table compares like with like."""

from collections.abc import Mapping

# By stage, milliseconds of one answer.
Times = Mapping[str, float]
# What an engine does, of which the pipeline's leaf cannot tell the one from the other: one row.
_ENGINE = ("prefill", "generate")


def compared(stages: Times) -> Times:
    """The stages with those of the engine as one."""
    engine = [stages[stage] for stage in _ENGINE if stage in stages]
    others = {stage: took for stage, took in stages.items() if stage not in _ENGINE}
    return {**others, "engine": sum(engine)} if engine else others
