"""The resource that an event names is made of names, of the answer first, and of nothing else."""

from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.retriever.v1 import retriever_pb2

from services.chassis.auditing.naming import resource_name

VERSION = "models/{model}/versions/{version}"


def test_the_answer_is_asked_before_the_request() -> None:
    request = registry_pb2.MergeVersionRequest(model="from", version="old", target_model="to")
    answer = registry_pb2.MergeVersionResponse(version=model_pb2.Version(model="to", version="sha256:1"))
    assert resource_name(VERSION, answer, request) == "models/to/versions/sha256:1"
    assert resource_name(VERSION, None, request) == "models/from/versions/old"


def test_a_name_is_found_inside_the_message_that_is_a_field() -> None:
    header = retriever_pb2.DocumentHeader(collection="handbook", document="leave.md")
    request = retriever_pb2.PutDocumentRequest(header=header, content=b"never this")
    name = resource_name("collections/{collection}/documents/{document}", request)
    assert name == "collections/handbook/documents/leave.md"


def test_what_nobody_named_yet_is_left_out_with_all_behind_it() -> None:
    request = registry_pb2.CreateVersionRequest(version=model_pb2.Version(model="m"))
    assert resource_name(VERSION, registry_pb2.CreateVersionResponse(), request) == "models/m/versions"
    assert resource_name("blobs/{sha256}", None, object()) == "blobs"


def test_a_name_is_cut_where_an_event_would_not_fit_its_room() -> None:
    assert len(resource_name("files/{model}", registry_pb2.GetModelRequest(model="é" * 5000))) == 1024
