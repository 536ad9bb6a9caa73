"""The faults that are planted, by name: where they sit and what they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.load.generator.planted import twists
from tests.load.generator.planted.twists import Slots, Step


class Where(Enum):
    """Which part of the engine has the fault."""

    PLAN = "the plan of the step, which the attestation reads"
    PRODUCT = "the product, behind the attestation's back"
    LAYER = "the product of some layers"
    LOADING = "the way from the file into the slot"
    ATTESTATION = "the attestation"
    CACHE = "the prefix cache"
    OUTPUT = "the way of the answers back"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``twist`` is how it changes a step's slots, where it does.

    One that ``touches_few`` answers, or each but little, is found by few checks of a short storm and gets a longer one.
    """

    name: str
    where: Where
    meaning: str
    twist: Callable[[Step], Slots] | None = None
    touches_few: bool = False


FAULTS = (
    Fault("slot-off-by-one", Where.PLAN, "rows go to the next slot", twists.off_by_one),
    Fault("slot-off-by-one-unseen", Where.PRODUCT, "rows go to the next slot", twists.off_by_one),
    Fault("base-in-last-slot", Where.PLAN, "base rows go to the last slot", twists.base_in_last_slot),
    Fault("base-in-last-slot-unseen", Where.PRODUCT, "base rows go to the last slot", twists.base_in_last_slot),
    Fault(
        "base-row-touched",
        Where.PRODUCT,
        "a slot's rows run one row too far",
        twists.base_beside_adapter,
        touches_few=True,
    ),
    Fault("rows-shifted", Where.PRODUCT, "each row has the slot of the row before", twists.rows_shifted),
    Fault("rows-exchanged", Where.PRODUCT, "two requests have each other's slots", twists.exchanged),
    Fault("stale-plan", Where.PRODUCT, "the plan of the first step of as many rows", twists.stale),
    Fault("first-adapter-for-all", Where.PRODUCT, "all have the first request's slot", twists.first_adapter_for_all),
    Fault("prompt-only", Where.PRODUCT, "an adapter reads and the base writes", twists.prompt_only),
    Fault("decode-only", Where.PRODUCT, "the base reads and an adapter writes", twists.decode_only),
    Fault("first-rows-only", Where.PRODUCT, "eight rows a slot and no more", twists.first_rows_only),
    Fault("mid-answer-swap", Where.PLAN, "an answer goes on in another slot", twists.swapped_mid_answer),
    Fault("mid-answer-swap-unseen", Where.PRODUCT, "an answer goes on in another slot", twists.swapped_mid_answer),
    Fault(
        "resumed-on-base",
        Where.PRODUCT,
        "preempted requests go on as the base",
        twists.resumed_on_base,
        touches_few=True,
    ),
    Fault("one-layer-of-another", Where.LAYER, "one layer is multiplied by the next slot"),
    Fault("one-layer-missing", Where.LAYER, "one layer is not adapted"),
    Fault("down-projections-missing", Where.LAYER, "one of the four products of each layer is left out"),
    Fault("applied-twice", Where.LAYER, "every product is added twice"),
    Fault("neighbour-leaks", Where.LAYER, "a tenth of the next slot's product is added", touches_few=True),
    Fault("slot-not-zeroed", Where.LOADING, "what a version leaves in its slot stays there"),
    Fault("stale-b", Where.LOADING, "the copy of B that multiplies is not renewed"),
    Fault("rank-dropped", Where.LOADING, "the last rank of every product is left out"),
    Fault("wrong-scale", Where.LOADING, "alpha is taken for half of what it is"),
    Fault("slices-exchanged", Where.LOADING, "the halves of B are exchanged, in packed layers"),
    Fault("slot-left-empty", Where.LOADING, "a slot is stamped and not filled"),
    Fault("wrong-file", Where.LOADING, "the weights of another version, under the right stamp"),
    Fault("file-changed", Where.LOADING, "the weights on disk changed after they were verified"),
    Fault("stamp-of-neighbour", Where.ATTESTATION, "a slot's stamp is read from the next"),
    Fault("no-attestation", Where.ATTESTATION, "no step is recorded"),
    Fault("lying-attestation", Where.ATTESTATION, "the request's own version is told, rows go to the next slot"),
    Fault("cache-without-version", Where.CACHE, "prompts are cached whoever read them, unsalted"),
    Fault("cache-without-salt", Where.CACHE, "tenants find each other's prompts", touches_few=True),
    Fault("outputs-exchanged", Where.OUTPUT, "two requests get each other's tokens"),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
