"""A backup taken while documents are written, and its way back; what is cut short, damaged or in the way is refused."""

import errno
import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
from contextlib import closing

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb
from typer.testing import CliRunner

from services.ops.backup.contents import MANIFEST, BackupError
from services.ops.backup.restoring import restore
from services.ops.backup.taking import take
from services.ops.cli import app
from tests.adapters import digest
from tests.library import Library, Reader
from tests.stack import Stack, User, download, eventually


def text(number: int) -> str:
    return f"# Fares\n\nThe crossing of line {number} costs {number * 7} crowns.\n\n# Boats\n\nBoat {number} has a siren.\n"


class Writer:
    """Puts one document after another until it is told to stop; ``acknowledged`` are those that are durable."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acknowledged: list[int] = []

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        for number in range(1, 100_000):
            if self._over.is_set():
                return
            self._reader.put(f"d{number}.md", text(number))
            self.acknowledged.append(number)
            if number % 5 == 0:
                self._reader.delete(f"d{number - 3}.md")


def on(library: Library, reader: Reader, collection: str) -> Reader:
    """The same somebody, at another retriever."""
    there = Reader(library.api(library.stack.tenant_key(reader.tenant)), reader.tenant)
    there.collection = collection
    return there


def test_what_was_acknowledged_before_a_backup_began_is_found_after_its_restoration(stack, tmp_path, embedder_address):
    library = Library(stack, tmp_path / "one", embedder_address)
    reader = library.newcomer()
    backup = tmp_path / "backup"
    try:
        with Writer(reader) as writer:
            eventually(lambda: len(writer.acknowledged) > 15, "documents are written")
            before = list(writer.acknowledged)
            manifest = take(tmp_path / "one", backup)
            after = len(writer.acknowledged)
            eventually(lambda: len(writer.acknowledged) > after + 5, "writing goes on")
    finally:
        library.close()
    # The index is no part of it.
    assert [held.path for held in manifest.files] == ["retriever/retriever.db"]
    restore(backup, tmp_path / "two")
    again = Library(stack, tmp_path / "two", embedder_address)
    try:
        there = on(again, reader, reader.collection)
        there.settled()
        deleted = {number - 3 for number in before if number % 5 == 0}
        # The last deletion may have been under way, and what was written and deleted meanwhile may be in it or not.
        maybe = {number for number in before if number % 5 == 2 and number + 3 >= before[-1]}
        maybe.update(range(before[-1] + 1, writer.acknowledged[-1] + 2))
        for number in set(before) - deleted - maybe:
            hit = there.search(f"crossing of line {number} costs", top_k=50)
            mine = [it for it in hit if it.document == f"d{number}.md"]
            assert mine, number
            assert all(there.text(it.document, it.version, it.start, it.end) == it.text for it in mine)
            assert there.text(f"d{number}.md").rstrip() == text(number).rstrip()
        listed = there.api.ListDocuments(pb.ListDocumentsRequest(collection=there.collection, page_size=1000)).documents
        assert {it.state for it in listed} == {pb.INGESTION_STATE_READY}
        assert not {f"d{number}.md" for number in deleted - maybe} & {it.document for it in listed}
        # The index that was built from the catalog is the one that a new build gives, read back and verified.
        ranking = [(it.document, it.start, it.score) for it in there.search("crossing siren", top_k=500)]
        built = list(there.api.Reindex(pb.ReindexRequest(collection=there.collection)))[-1]
        assert built.chunks == there.statistics().chunks > 15
        assert [(it.document, it.start, it.score) for it in there.search("crossing siren", top_k=500)] == ranking
    finally:
        again.close()


def test_versions_and_keys_come_back_with_every_blob_that_the_registry_names(tmp_path):
    first = Stack(tmp_path / "one")
    published = {}
    over = threading.Event()
    try:
        user = first.newcomer()
        key = first.tenant_key(user.tenant)

        def publish():
            while not over.is_set():
                version = user.publish("desk")
                published[version.version] = {file.filename: file.sha256 for file in version.files}

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            eventually(lambda: len(published) > 2, "versions are published")
            before = dict(published)
            take(tmp_path / "one", tmp_path / "backup")
        finally:
            over.set()
            publishing.join(60)
    finally:
        first.close()
    restore(tmp_path / "backup", tmp_path / "two")
    with closing(sqlite3.connect(tmp_path / "two" / "registry" / "registry.db")) as registry:
        named = {sha256 for (sha256,) in registry.execute("SELECT sha256 FROM files")}
    assert named >= {sha256 for files in before.values() for sha256 in files.values()}
    assert named <= {path.name for path in (tmp_path / "two" / "registry" / "blobs").rglob("*") if path.is_file()}
    again = Stack(tmp_path / "two")
    try:
        # The key that was given out before opens the suite again.
        there = User(again.registry_api(key), user.tenant)
        for version, files in before.items():
            assert there.resolve(f"desk@{version}").version == version
            assert all(digest(download(there.api, sha256)) == sha256 for sha256 in files.values())
    finally:
        again.close()


@pytest.fixture
def data(tmp_path):
    """A folder as a suite leaves it, small."""
    made = tmp_path / "data"
    for name in ("retriever", "registry", "access", "keys", "logs"):
        (made / name).mkdir(parents=True)
    for name in ("retriever", "registry", "access"):
        with closing(sqlite3.connect(made / name / f"{name}.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)")
            database.execute("INSERT INTO facts VALUES ('catalog_id', 'former'), ('other', 'kept')")
            database.commit()
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    blob = made / "registry" / "blobs" / "sha256" / "9f" / "86" / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"test")
    (made / "keys" / "admin.key").write_text("key")
    (made / "keys" / "admin.key").chmod(0o600)
    (made / "retriever" / "index.db").write_bytes(b"an index")
    (made / "logs" / "suite.log").write_text("lines")
    return made


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_databases_blobs_and_keys_come_back_and_indexes_and_logs_do_not(data, tmp_path):
    take(data, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new" / "data")
    back = tmp_path / "new" / "data"
    kept = [name for name in names(data) if not name.startswith(("logs", "retriever/index"))]
    assert names(back) == kept
    assert (back / "keys" / "admin.key").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(back / "retriever" / "retriever.db")) as catalog:
        # Whoever has the former id's index has it for himself.
        assert catalog.execute("SELECT name, value FROM facts").fetchall() == [("other", "kept")]
    with closing(sqlite3.connect(back / "registry" / "registry.db")) as registry:
        assert registry.execute("SELECT count(*) FROM facts").fetchone() == (2,)


def test_a_backup_cut_short_is_refused_by_name(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("services.ops.backup.taking._files", full)
        with pytest.raises(OSError) as failed:
            take(data, tmp_path / "backup")
        assert failed.value.errno == errno.ENOSPC
    with pytest.raises(BackupError, match=re.escape(f"{tmp_path / 'backup'} was cut short")):
        restore(tmp_path / "backup", tmp_path / "new")
    (tmp_path / "other").mkdir()
    with pytest.raises(BackupError, match=re.escape(f"{tmp_path / 'other'} is no backup")):
        restore(tmp_path / "other", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["a bit", "shorter", "missing", "manifest", "path"])
def test_a_damaged_backup_is_refused_and_leaves_nothing_behind(data, tmp_path, damage):
    backup = tmp_path / "backup"
    take(data, backup)
    victim = backup / "registry" / "registry.db"
    content = victim.read_bytes()
    match damage:
        case "a bit":
            victim.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
        case "shorter":
            victim.write_bytes(content[:-1])
        case "missing":
            victim.unlink()
        case "manifest":
            (backup / MANIFEST).write_bytes((backup / MANIFEST).read_bytes().replace(b"admin.key", b"admin.kex"))
        case "path":
            whole = json.loads((backup / MANIFEST).read_text())
            whole["files"][0]["path"] = "../outside"
            (backup / MANIFEST).write_text(json.dumps(whole))
    with pytest.raises(BackupError, match=r"registry\.db|manifest\.json"):
        restore(backup, tmp_path / "new" / "data")
    assert list((tmp_path / "new").iterdir() if (tmp_path / "new").exists() else []) == []


def test_nothing_is_restored_or_written_over_what_is_there(data, tmp_path):
    take(data, tmp_path / "backup")
    before = names(data)
    with pytest.raises(BackupError, match=f"{re.escape(str(data))}.* empty"):
        restore(tmp_path / "backup", data)
    with pytest.raises(BackupError, match=f"{re.escape(str(tmp_path / 'backup'))}.* empty"):
        take(data, tmp_path / "backup")
    assert names(data) == before
    with pytest.raises(BackupError, match=re.escape(str(tmp_path / "elsewhere"))):
        take(tmp_path / "elsewhere", tmp_path / "another")


def test_a_blob_or_a_database_that_rotted_is_not_taken(data, tmp_path):
    blob = next((data / "registry" / "blobs").rglob("9f86*"))
    blob.write_bytes(b"tesT")
    with pytest.raises(BackupError, match=re.escape(str(blob))):
        take(data, tmp_path / "backup")


def test_the_commands_say_what_they_did_and_refuse_by_their_exit_code(data, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, [*map(str, words)])

    taken = run("backup", tmp_path / "backup", "--data-dir", data)
    assert taken.exit_code == 0, taken.output
    assert "holds 5 files" in taken.output
    refused = run("restore", tmp_path / "backup", "--data-dir", data)
    assert (refused.exit_code, "not empty" in " ".join(refused.output.split())) == (4, True)
    back = run("restore", tmp_path / "backup", "--data-dir", tmp_path / "new")
    assert back.exit_code == 0, back.output
    assert f"trivium up --data-dir {tmp_path / 'new'}" in " ".join(back.output.split())


@pytest.mark.sampled(every=2, family="robustness on PostgreSQL")
def test_the_catalog_on_postgresql_comes_back_from_pg_dump(stack, tmp_path, embedder_address, postgres):
    if shutil.which("pg_dump") is None:
        pytest.skip("there is no pg_dump here: apt-get install postgresql-client")
    first, second = postgres.database(), postgres.database()
    library = Library(stack, tmp_path / "one", embedder_address, {"TRIVIUM_RETRIEVER_DATABASE_URL": first})
    reader = library.newcomer()
    try:
        with Writer(reader) as writer:
            eventually(lambda: len(writer.acknowledged) > 10, "documents are written")
            # The writer deletes none of these.
            before = next(number for number in reversed(writer.acknowledged) if number % 5 != 2)
            plain = first.replace("+psycopg", "")
            dumped = subprocess.run(
                ["pg_dump", "--no-owner", plain], check=True, capture_output=True, timeout=120
            ).stdout
    finally:
        library.close()
    loaded = ["psql", "--quiet", "--set", "ON_ERROR_STOP=1", second.replace("+psycopg", "")]
    subprocess.run(loaded, input=dumped, check=True, capture_output=True, timeout=120)
    again = Library(stack, tmp_path / "two", embedder_address, {"TRIVIUM_RETRIEVER_DATABASE_URL": second})
    try:
        there = on(again, reader, reader.collection)
        there.settled()
        assert f"d{before}.md" in {hit.document for hit in there.search(f"crossing of line {before}", top_k=50)}
        assert there.text(f"d{before}.md").rstrip() == text(before).rstrip()
    finally:
        again.close()
