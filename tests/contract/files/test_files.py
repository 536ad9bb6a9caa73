"""Files are stored whole or not at all, read from any offset, listed in order, and go when they expire or are deleted."""

import grpc
import pytest
from trivium.access.v1 import access_pb2
from trivium.files.v1 import file_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.adapters import noise
from tests.filing import Filing, Keeper, new_id, upload
from tests.stack import CHUNK_BYTES, refused


def test_a_file_is_stored_described_and_read_from_any_offset(keeper: Keeper):
    content = noise(2 * CHUNK_BYTES + 17)
    made = keeper.upload(content, "räder.jsonl", purpose=pb.PURPOSE_FINE_TUNE, media_type="application/jsonl")
    assert made.file.startswith("file-")
    assert (made.filename, made.purpose, made.size_bytes) == ("räder.jsonl", pb.PURPOSE_FINE_TUNE, len(content))
    assert not made.HasField("expire_time")
    assert keeper.files.GetFile(pb.GetFileRequest(file=made.file)).file == made
    for offset in (0, 1, CHUNK_BYTES, len(content) - 1, len(content)):
        assert keeper.read(made.file, offset) == content[offset:]
    with refused("OFFSET_BEYOND_END"):
        keeper.read(made.file, len(content) + 1)


def test_an_empty_file_can_be_stored(keeper: Keeper):
    assert keeper.read(keeper.upload(b"").file) == b""


@pytest.mark.parametrize(
    ("reason", "lie"),
    [
        ("DIGEST_MISMATCH", {"sha256": "0" * 64}),
        ("SIZE_MISMATCH", {"size": 5}),
        ("UPLOAD_UNFINISHED", {"ended": False}),
        ("SIZE_MISMATCH", {"until": CHUNK_BYTES}),
    ],
)
def test_an_upload_that_is_not_what_its_end_says_leaves_nothing(filing: Filing, keeper: Keeper, reason: str, lie):
    with refused(reason):
        keeper.upload(noise(CHUNK_BYTES + 1), **lie)
    assert keeper.listed() == []
    staged = [path for path in (filing.data / "files" / "blobs" / "staging").glob("*/*") if path.is_file()]
    assert staged == []


def test_messages_of_an_upload_out_of_their_order_are_refused(keeper: Keeper):
    header, chunk, end = list(upload(b"abc"))
    with refused("FIELD_INVALID"):
        keeper.files.CreateFile(iter([chunk, end]))
    with refused("FIELD_INVALID"):
        keeper.files.CreateFile(iter([header, chunk, header, end]))
    assert keeper.read(keeper.files.CreateFile(iter([chunk, header, end])).file.file) == b"abc"
    with refused("UPLOAD_UNFINISHED"):
        keeper.files.CreateFile(iter([]))
    chunk.chunk.offset_bytes = 1
    with refused("CHUNK_OFFSET_WRONG"):
        keeper.files.CreateFile(iter([header, chunk, end]))


def test_a_file_over_the_limit_is_refused_before_it_is_whole(keeper: Keeper):
    with refused("FILE_TOO_LARGE") as failures:
        keeper.upload(noise(8 * 1024**2 + 1), "large.bin")
    assert failures[0].variables["limit_bytes"] == str(8 * 1024**2)


def test_a_tenant_keeps_so_many_files_and_may_add_one_for_each_that_it_deletes(keeper: Keeper):
    made = [keeper.upload(b"x").file for _ in range(20)]
    with refused("FILES_EXHAUSTED"):
        keeper.upload(b"x")
    keeper.files.DeleteFile(pb.DeleteFileRequest(file=made[0]))
    keeper.upload(b"x")


def test_a_repeated_request_has_one_effect_and_another_content_under_its_id_is_refused(keeper: Keeper):
    request_id = new_id()
    first = keeper.upload(b"once", request_id=request_id)
    assert keeper.upload(b"once", request_id=request_id) == first
    assert keeper.listed() == [first.file]
    with refused("REQUEST_ID_REUSED"):
        keeper.upload(b"other", request_id=request_id)


def test_lists_go_by_time_in_both_orders_by_purpose_and_behind_a_file_that_is_gone(keeper: Keeper):
    purposes = [pb.PURPOSE_BATCH, pb.PURPOSE_EVALS, pb.PURPOSE_BATCH, pb.PURPOSE_BATCH]
    made = [keeper.upload(b"x", purpose=purpose).file for purpose in purposes]
    assert keeper.listed() == made[::-1]
    assert keeper.listed(order=pb.ORDER_ASCENDING) == made
    assert keeper.listed(purpose=pb.PURPOSE_EVALS) == [made[1]]
    page = keeper.files.ListFiles(pb.ListFilesRequest(purpose=pb.PURPOSE_BATCH, page_size=2))
    assert ([item.file for item in page.files], page.has_more) == ([made[3], made[2]], True)
    keeper.files.DeleteFile(pb.DeleteFileRequest(file=made[2]))
    rest = keeper.files.ListFiles(pb.ListFilesRequest(purpose=pb.PURPOSE_BATCH, page_size=2, after=made[2]))
    assert ([item.file for item in rest.files], rest.has_more) == ([made[0]], False)


def test_a_deleted_file_is_gone_and_the_same_bytes_of_another_stay(keeper: Keeper):
    one, other = keeper.upload(b"same"), keeper.upload(b"same")
    keeper.files.DeleteFile(pb.DeleteFileRequest(file=one.file))
    with refused("FILE_NOT_FOUND"):
        keeper.files.GetFile(pb.GetFileRequest(file=one.file))
    with refused("FILE_NOT_FOUND"):
        keeper.files.DeleteFile(pb.DeleteFileRequest(file=one.file))
    assert keeper.read(other.file) == b"same"


def test_a_batch_file_expires_by_itself_and_others_when_they_are_told_to(keeper: Keeper):
    batch = keeper.upload(b"{}", purpose=pb.PURPOSE_BATCH)
    assert batch.expire_time.seconds - batch.create_time.seconds == 30 * 24 * 3600
    told = keeper.upload(b"{}", expires_after_seconds=3600)
    assert told.expire_time.seconds - told.create_time.seconds == 3600
    with refused("REQUEST_INVALID"):
        keeper.upload(b"{}", expires_after_seconds=3599)


def test_a_file_is_noted_as_attached_once_and_its_deletion_says_so(filing: Filing, keeper: Keeper):
    plain, noted = keeper.upload(b"plain"), keeper.upload(b"noted")
    assert (plain.attached, noted.attached) == (False, False)
    for _ in range(2):
        assert keeper.files.AttachFile(pb.AttachFileRequest(file=noted.file)).file.attached
    with refused("FILE_NOT_FOUND"):
        filing.newcomer().files.AttachFile(pb.AttachFileRequest(file=plain.file))
    told = [keeper.files.DeleteFile(pb.DeleteFileRequest(file=it.file)).attached for it in (plain, noted)]
    assert told == [False, True]


def test_nobody_stores_the_output_of_a_batch(keeper: Keeper):
    with refused("REQUEST_INVALID"):
        keeper.upload(b"{}", purpose=pb.PURPOSE_BATCH_OUTPUT)


def test_a_reader_reads_and_does_not_write(filing: Filing, keeper: Keeper):
    made = keeper.upload(b"to be read")
    reader = filing.keeper(filing.stack.tenant_key(keeper.tenant, access_pb2.ROLE_READER))
    assert reader.read(made.file) == b"to be read"
    with refused("ROLE_MISSING"):
        reader.files.DeleteFile(pb.DeleteFileRequest(file=made.file))
    with pytest.raises(grpc.RpcError) as caught:
        reader.upload(b"x")
    assert from_rpc_error(caught.value).reason == "ROLE_MISSING"


def test_another_tenants_file_looks_like_one_that_is_not_there(filing: Filing, keeper: Keeper):
    foreign = filing.newcomer().upload(b"secret").file
    missing = foreign[:-8] + "00000000"
    assert _answers(keeper, foreign) == _answers(keeper, missing)


def _answers(keeper: Keeper, file: str) -> tuple[list[str], list[str]]:
    found = []
    for call in (
        lambda: keeper.files.GetFile(pb.GetFileRequest(file=file)),
        lambda: keeper.files.DeleteFile(pb.DeleteFileRequest(file=file)),
        lambda: keeper.read(file),
    ):
        with refused("FILE_NOT_FOUND") as failures:
            call()
        found.append(failures[0].message.replace(file, "FILE"))
    return found, keeper.listed(after=file)
