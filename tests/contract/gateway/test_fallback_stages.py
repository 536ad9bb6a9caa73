"""Whoever reads what replaced a stage knows every stage that may stand there: the contract names what the code tells."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.asking.question import Path as AnswerPath
from tests.contract.contracts import PROTOS

GATEWAY = Path(__file__).resolve().parents[3] / "gateway"
# Whatever makes one takes its stage first; ``partial`` takes it behind the call.
TELLING = {"Fallback", "fell_back", "note"}
# What stands there instead of a word: the paths that are no passages, the stage of a race, and what is passed on.
NAMED: dict[str, set[str]] = {
    "about.path.value": {AnswerPath.SUMMARY.value, AnswerPath.INDEX.value},
    "STAGE": {"replica"},
    "stage": set(),
    "it.stage": set(),
}


def name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def told(source: Path) -> Iterator[str]:
    """The stages that a module tells of as replaced."""
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called, *args = [node.func, *node.args]
        if name_of(called) == "partial":
            called, *args = args
        if name_of(called) not in TELLING or not args:
            continue
        stage = args[0]
        if isinstance(stage, ast.Constant):
            yield str(stage.value)
        else:
            yield from NAMED[ast.unparse(stage)]


def test_the_contract_names_every_stage_that_is_told_as_replaced() -> None:
    stages = {stage for source in GATEWAY.rglob("*.py") for stage in told(source)}
    assert {"policy", "replica", "retrieve", "route", "store", "summary", "verify"} <= stages
    proto = (PROTOS / "trivium" / "gateway" / "v1" / "gateway.proto").read_text()
    comment = proto.partition("message Fallback {")[2].partition("string stage")[0]
    assert stages - set(re.findall(r"\w+", comment)) == set()
