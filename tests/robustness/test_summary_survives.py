"""A retriever that is killed while it builds a summary tree goes on where it was."""

import grpc
import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.test_summaries import ask, cited, fill
from tests.library import Library


@pytest.mark.parametrize(
    "database",
    ["sqlite", pytest.param("postgres", marks=pytest.mark.sampled(every=2, family="robustness on PostgreSQL"))],
)
def test_nodes_that_were_kept_before_a_kill_are_not_computed_again(
    request, stack, tmp_path, embedder_address, database
):
    armed = tmp_path / "armed"
    environment = {"TRIVIUM_TEST_ARMED": str(armed)}
    if database == "postgres":
        environment["TRIVIUM_RETRIEVER_DATABASE_URL"] = request.getfixturevalue("postgres").database()
    prelude = "tests.robustness.dying_between_nodes"
    library = Library(stack, tmp_path / "library", embedder_address, environment, prelude=prelude)
    try:
        reader = library.newcomer()
        fill(reader, 20)
        armed.touch()
        # Without the client's own retries, the call ends with the server.
        with pytest.raises(grpc.RpcError):
            ask(reader)
        library.restart(armed.unlink)
        rest = ask(reader)
        assert rest.nodes_reused > 0
        assert rest.nodes_computed > 0
        cited(reader, rest)
        fresh = library.newcomer()
        fill(fresh, 20)
        whole = ask(fresh)
        assert whole.nodes_computed == rest.nodes_computed + rest.nodes_reused
        assert [it.text for it in whole.statements] == [it.text for it in rest.statements]
        assert ask(reader) == pb.SummarizeResponse(
            **{**_fields(rest), "nodes_computed": 0, "nodes_reused": whole.nodes_computed}
        )
    finally:
        library.close()


def _fields(message):
    return {field.name: value for field, value in message.ListFields()}
