"""What both skins must answer alike of names, of where they lead, and of receipts and replays."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.gateway_skins import Refused
from tests.conformance.verbs import Case, Told, answers, is_told, refuses


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is: a model whose alias serves a version, questions that it is and is not for, an answer's id, an encoder."""

    model: str = ""
    version: str = ""
    number: int = 0
    meant: str = ""
    unmeant: str = ""
    request_id: str = ""
    encoder: str = ""

    @property
    def resolved(self) -> str:
        """The version's name in full."""
        return f"{self.model}@{self.version}"


def cases(stock: Stock) -> list[Case]:
    """The cases."""
    return [*_names(stock), *_routes(stock), *_receipts(stock)]


def _names(stock: Stock) -> list[Case]:
    numbered = f"{stock.model}@{stock.number}"

    def listed(told: Told) -> bool:
        models, unreachable = told
        kinds = {name: kind for name, kind, *_ in models}
        found = kinds.get(stock.model), kinds.get(stock.encoder), kinds.get("auto")
        return models[0][:2] == ("base", "base") and found == ("adapter", "encoder", "auto") and unreachable == []

    return [
        Case("names are listed, the base first", "models", answers(listed)),
        Case("the base is a model", "model", answers(lambda it: it[:3] == ("base", "base", None)), {"name": "base"}),
        Case("an encoder is one", "model", is_told((stock.encoder, "encoder", None, "", 384)), {"name": stock.encoder}),
        Case("encoders are told with the length of vectors", "encoders", is_told([(stock.encoder, 384)])),
        Case(
            "an alias means what it serves",
            "model",
            answers(lambda it: it[:3] == (stock.model, "adapter", stock.version)),
            {"name": stock.model},
        ),
        Case(
            "a version means itself",
            "model",
            answers(lambda it: it[:3] == (numbered, "adapter", stock.version)),
            {"name": numbered},
        ),
        Case("a name of nothing is none", "model", refuses("model_not_found"), {"name": "never"}),
        Case("the base is nobody's to delete", "delete_model", refuses("field_invalid"), {"name": "base"}),
        Case("a name of nothing cannot be deleted", "delete_model", refuses("model_not_found"), {"name": "never"}),
        Case("what is served is not deleted", "delete_model", refuses("version_in_use"), {"name": stock.resolved}),
    ]


def _leads(resolved: str, alias: str | None) -> Callable[[Told | Refused], bool]:
    return answers(lambda it: (it["resolved_model"], it["alias"], it["auto"]) == (resolved, alias, None))


def _routes(stock: Stock) -> list[Case]:
    numbered = f"{stock.model}@{stock.number}"

    def chosen(told: Told) -> bool:
        [nearest, *_], confidence, threshold, abstained, _ = told["auto"]
        answered = told["resolved_model"], nearest[0], told["model"][:2], abstained
        return answered == (stock.resolved, stock.model, ("auto", "auto"), False) and confidence >= threshold

    def abstained(told: Told) -> bool:
        _, confidence, threshold, given_up, _ = told["auto"]
        return (told["resolved_model"], given_up) == ("base", True) and confidence < threshold

    return [
        Case("the base leads to its engine", "route", answers(lambda it: len(it["engines"]) == 1), {"model": "base"}),
        Case("a name leads to what its alias serves", "route", _leads(stock.resolved, "prod"), {"model": stock.model}),
        Case("a version leads to itself", "route", _leads(stock.resolved, None), {"model": numbered}),
        Case(
            "auto leads to the model that is meant",
            "route",
            answers(chosen),
            {"model": "auto", "question": stock.meant},
        ),
        Case(
            "auto leads to the base where none is",
            "route",
            answers(abstained),
            {"model": "auto", "question": stock.unmeant},
        ),
        Case("auto leads to the base without a question", "route", answers(_is_base), {"model": "auto"}),
        Case("a name of nothing leads nowhere", "route", refuses("model_not_found"), {"model": f"{stock.model}s"}),
        Case("the deployment's encoder leads nowhere", "route", refuses("model_not_found"), {"model": stock.encoder}),
        Case("no name leads nowhere", "route", refuses("request_invalid"), {"model": ""}),
    ]


def _is_base(told: Told) -> bool:
    return bool(told["resolved_model"] == "base")


def _receipts(stock: Stock) -> list[Case]:
    def kept(told: Told) -> bool:
        made = told["request_id"], told["requested_model"], told["resolved_model"], told["version"], told["usage"]
        return bool(made == (stock.request_id, "base", "base", None, (7, 2, 0)))

    replay = {"request_id": stock.request_id, "text": "How much?"}
    return [
        Case("a receipt is kept", "receipt", answers(kept), {"request_id": stock.request_id}),
        Case(
            "a receipt that is not there is told as such",
            "receipt",
            refuses("receipt_not_found"),
            {"request_id": "never"},
        ),
        Case("an id beyond all ids is refused", "receipt", refuses("request_invalid"), {"request_id": "x" * 129}),
        Case("an answer is held against its receipt", "replay", answers(lambda it: it[2] == stock.request_id), replay),
        Case(
            "a receipt that is not there has no replay",
            "replay",
            refuses("receipt_not_found"),
            {**replay, "request_id": "never"},
        ),
    ]
