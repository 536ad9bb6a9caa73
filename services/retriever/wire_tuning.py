"""Tuning between protobuf and the domain."""

from trivium.retriever.v1 import retriever_pb2 as pb

from services.retriever import wire_search
from services.retriever.search.calibrating import Calibration
from services.retriever.search.trials import Pair, Step, Trial, Verdict


def pairs(request: pb.TuneRequest) -> list[Pair]:
    """The questions with what answers them."""
    return [Pair(it.question, frozenset(it.documents)) for it in request.pairs]


def told(value: Step | Verdict) -> pb.TuneResponse:
    """How far it is, or what it came to."""
    if isinstance(value, Step):
        return pb.TuneResponse(progress=pb.TuningProgress(trial=value.name, done=value.done, total=value.total))
    return pb.TuneResponse(
        report=pb.TuningReport(
            trials=[_trial(it) for it in value.trials],
            search_settings=wire_search.shown_settings(value.settings),
            applied=value.applied,
            calibration=None if value.calibration is None else _calibration(value.calibration),
        )
    )


def _calibration(value: Calibration) -> pb.Calibration:
    return pb.Calibration(
        threshold=value.threshold,
        auc=value.auc,
        answered=value.answered,
        refused=value.refused,
        gain=value.gain,
        gain_low=value.low,
        gain_high=value.high,
        taken=value.taken,
    )


def _trial(value: Trial) -> pb.TuningTrial:
    return pb.TuningTrial(
        trial=value.name,
        search_settings=wire_search.shown_settings(value.settings),
        ndcg=value.ndcg,
        recall=value.recall,
        gain=value.gain,
        gain_low=value.low,
        gain_high=value.high,
        seconds=value.seconds,
        taken=value.taken,
        note=value.note,
    )
