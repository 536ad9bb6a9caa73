"""No RPC of the gateway's is without a row in the tables that the runner sends over both transports."""

from collections.abc import Mapping
from pathlib import Path

from trivium.gateway.v1 import gateway_pb2

from tests.conformance.runner import FILES, SERVICES, Case, Operation
from tests.conformance.tables import chat, files, fine_tuning, models, responses, vector_stores
from tests.conformance.tables.chat_cases import engine_cases
from tests.conformance.tables.stock import Stock

_TABLES = (chat, files, fine_tuning, models, responses, vector_stores)


def test_every_rpc_has_an_operation() -> None:
    assert {file.name for file in Path(str(gateway_pb2.__file__)).parent.glob("*_pb2.py")} == {
        Path(str(file.__file__)).name for file in FILES
    }
    rpcs = [f"{service.name}.{rpc.name}" for service in SERVICES.values() for rpc in service.methods]
    assert len(rpcs) > 40
    operations = [operation.rpc for table in _TABLES for operation in table.OPERATIONS.values()]
    assert sorted(operations) == sorted(rpcs)


def test_every_operation_has_a_case() -> None:
    rows = [
        (chat.OPERATIONS, engine_cases("", "", "", "")),
        (files.OPERATIONS, files.cases(Stock(), b"")),
        (fine_tuning.OPERATIONS, fine_tuning.cases("", "", "")),
        (models.OPERATIONS, models.cases(Stock())),
        (responses.OPERATIONS, responses.cases(Stock())),
    ]
    assert [_uncalled(operations, cases) for operations, cases in rows] == [set()] * len(rows)


def _uncalled(operations: Mapping[str, Operation], cases: list[Case]) -> set[str]:
    return set(operations) - {case.operation for case in cases}
