"""Folders as people bring them, against a real server: what is sent, what is not, what goes, and what stays."""

import json
import re
import shutil
import signal
import subprocess
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.contract.retriever.desk import Desk
from tests.harness.wording import missing
from tests.library import Library
from tests.stack import eventually
from tests.unit.retriever.formats import building


@pytest.fixture(scope="session", params=["sqlite"])
def library(library: Library) -> Library:
    """One: what a client does with a folder is the same whatever the catalog is in."""
    return library


@pytest.fixture
def desk(library):
    made = Desk(library)
    yield made
    made.client.close()


@pytest.fixture
def folder(tmp_path):
    """A handbook of three documents, and what belongs into no collection."""
    made = tmp_path / "handbook"
    for name, text in {
        "leave.md": "# Leave\n\nEvery keeper has thirty days.\n",
        "quay/mooring.md": "# Mooring\n\nA mooring costs 14 crowns a night.\n",
        "quay/storms.txt": "# not a heading\nThe gate closes below 980 hectopascals.\n",
        ".git/config.md": "# hidden\n",
        "quay/.draft.md": "# hidden\n",
        "node_modules/readme.md": "# made by tools\n",
        "~$mooring.docx": "a lock of an editor",
        "quay/gate.step": "a drawing",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def sent(report):
    return [item.document for item in report.stored]


def test_a_folder_comes_whole_under_the_paths_inside_it_and_again_sends_nothing(desk, folder):
    first = desk.bring(folder)
    assert sent(first) == ["leave.md", "quay/mooring.md", "quay/storms.txt"]
    held = desk.documents()
    assert {item.state for item in held.values()} == {"ready"}
    again = desk.bring(folder)
    assert (again.stored, again.unchanged) == ((), 3)
    # No put reached the server: not even a time has moved.
    assert desk.documents() == held
    (folder / "leave.md").write_text("# Leave\n\nEvery keeper has thirty-one days.\n")
    (folder / "quay" / "storms.txt").touch()
    assert sent(desk.bring(folder)) == ["leave.md"]


def test_bytes_that_differ_in_line_ends_alone_are_sent_once(desk, folder):
    desk.bring(folder)
    (folder / "leave.md").write_bytes(b"# Leave\r\n\r\nEvery keeper has thirty days.\r\n")
    assert sent(desk.bring(folder)) == ["leave.md"]
    assert sent(desk.bring(folder)) == []


def test_globs_choose(desk, folder):
    report = desk.bring(folder, include=["quay/**", "*.git/**"], exclude=["*.step", "storms.*"])
    assert sent(report) == [".git/config.md", "quay/.draft.md", "quay/mooring.md"]


def test_a_link_out_of_the_folder_is_not_followed(desk, folder, tmp_path):
    (tmp_path / "secret.md").write_text("# Secret\n")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    (folder / "same.md").symlink_to(folder / "leave.md")
    assert sent(desk.bring(folder)) == ["leave.md", "quay/mooring.md", "quay/storms.txt", "same.md"]


def test_what_is_refused_is_told_with_its_reason_and_the_others_go_through(desk, folder):
    (folder / "broken.md").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    (folder / "nothing.md").write_text(" ")
    locked = folder / "locked.md"
    locked.symlink_to(folder / "quay")
    ran = desk.run(folder, "--json")
    assert ran.returncode == 4
    assert [item["document"] for item in json.loads(ran.stdout)] == ["leave.md", "quay/mooring.md", "quay/storms.txt"]
    assert re.search(r"broken\.md: .*PNG", ran.stderr)
    assert re.search(r"nothing\.md: .*no text", ran.stderr)
    assert "3 stored, 0 unchanged, 2 refused, 0 deleted" in ran.stderr


def test_a_file_larger_than_a_message_goes_by_stream(desk, folder):
    line = "The keeper of the harbour writes the log of the day.\n"
    (folder / "large.md").write_text(line * (4_000_000 // len(line)))
    report = desk.client.docs.add_folder(folder, collection=desk.collection, include=["large.md"])
    assert sent(report) == ["large.md"]
    desk.client.docs.delete("large.md", collection=desk.collection)


def test_a_new_name_embeds_nothing(desk, folder):
    desk.bring(folder)
    (folder / "quay").rename(folder / "pier")
    (folder / "leave.md").rename(folder / "holidays.md")
    report = desk.bring(folder, prune=True)
    held = desk.documents()
    assert report.pruned == ("leave.md", "quay/mooring.md", "quay/storms.txt")
    assert set(held) == {"holidays.md", "pier/mooring.md", "pier/storms.txt"}
    for name in held:
        assert (held[name].chunks_embedded, held[name].chunks_reused) == (0, 1), name


def test_pruning_one_folder_takes_nothing_of_another_one_or_of_what_was_put_by_hand(desk, folder, tmp_path):
    other = tmp_path / "elsewhere" / "handbook"
    other.mkdir(parents=True)
    (other / "fares.md").write_text("# Fares\n\nA child pays 3 crowns.\n")
    desk.bring(folder)
    desk.bring(other)
    desk.bring(other, prefix="second")
    desk.client.docs.add_text("# By hand\n", collection=desk.collection, document="by-hand.md")
    (other / "fares.md").unlink()
    (folder / "leave.md").unlink()
    assert desk.bring(folder, prune=True).pruned == ("leave.md",)
    assert set(desk.documents()) == {"quay/mooring.md", "quay/storms.txt", "fares.md", "second/fares.md", "by-hand.md"}
    assert desk.bring(other, prune=True, prefix="second").pruned == ("second/fares.md",)
    shutil.rmtree(other)
    ran = desk.run(folder, "--prune", "--yes")
    assert (ran.returncode, missing(ran.stderr, "0 stored", "2 unchanged", "0 deleted")) == (0, [])
    assert {"fares.md", "by-hand.md"} < set(desk.documents())


def test_a_changed_file_keeps_the_readers_of_its_document_until_others_are_named(desk, folder):
    desk.bring(folder, readers=["night-watch"])
    (folder / "leave.md").write_text("# Leave\n\nForty days.\n")
    assert sent(desk.bring(folder)) == ["leave.md"]
    assert {item.readers for item in desk.documents().values()} == {("night-watch",)}
    assert len(sent(desk.bring(folder, readers=["everybody", "night-watch"]))) == 3
    held = desk.documents().values()
    assert {item.readers for item in held} == {("everybody", "night-watch")}
    assert desk.bring(folder, readers=["night-watch", "everybody"]).stored == ()


def test_metadata_stay_with_a_document_whoever_brings_its_file_until_others_are_named(desk, folder):
    told = {"year": 2026, "kind": "rule", "since": date(2026, 5, 1), "labels": ["hr", "all"], "open": True}
    desk.client.collections.create(desk.collection)
    desk.client.docs.add_text("# Leave\n", collection=desk.collection, document="leave.md", metadata=told)
    desk.client.docs.add(folder / "leave.md", collection=desk.collection, metadata=told)
    desk.settle()

    def held():
        it = desk.documents()["leave.md"]
        return {**it.metadata, **it.typed_metadata}

    before = held()
    assert before["year"] == 2026
    assert desk.run(folder / "leave.md").returncode == 0
    assert held() == before
    # A folder marks what is its own, and keeps the rest.
    assert sent(desk.bring(folder))[0] == "leave.md"
    mark = held()["folder"]
    assert held() == {**before, "folder": mark}
    assert desk.bring(folder).stored == ()
    # A file of it that comes by itself stays the folder's, to be pruned with it.
    (folder / "leave.md").write_text("# Leave\n\nForty days.\n")
    ran = desk.run(folder / "leave.md", "--metadata", "year=2027", "--metadata", 'code="7"', "--metadata", "note=a b")
    assert ran.returncode == 0, ran.stderr
    assert held() == {**before, "folder": mark, "year": 2027, "code": "7", "note": "a b"}
    assert len(sent(desk.bring(folder, metadata={"year": 2028}))) == 3
    assert {item.typed_metadata["year"] for item in desk.documents().values()} == {2028}
    assert desk.bring(folder, metadata={"year": 2028}).stored == ()
    (folder / "leave.md").unlink()
    assert desk.bring(folder, prune=True).pruned == ("leave.md",)
    refused = desk.run(folder, "--metadata", "year")
    assert (refused.returncode, "NAME=VALUE" in refused.stderr) == (2, True)


def test_texts_of_another_charset_are_read_once_it_is_named(desk, tmp_path):
    letters = tmp_path / "letters"
    letters.mkdir()
    told = "Die Fähre fährt täglich über die Förde."
    (letters / "ferry.txt").write_bytes(told.encode("latin-1"))
    (letters / "ferry.html").write_bytes(f"<p>{told}</p>".encode("latin-1"))
    (letters / "plan.pdf").write_bytes(building.pdf("A mooring costs fourteen crowns. " * 20))
    refused = desk.run(letters)
    assert refused.returncode == 4
    assert refused.stderr.count("trivium docs add --charset ") == 2
    assert desk.run(letters, "--charset", "latin-99").returncode == 2

    named = desk.run(letters, "--charset", "latin-1", "--json")
    assert named.returncode == 0, named.stderr
    assert {item["document"] for item in json.loads(named.stdout)} == {"ferry.txt", "ferry.html"}
    for name in ("ferry.txt", "ferry.html"):
        assert desk.client.docs.text(name, collection=desk.collection).text.strip() == told
        assert desk.documents()[name].media_type.endswith("; charset=iso8859-1")
    assert (desk.bring(letters, charset="ISO-8859-1").unchanged, desk.bring(letters).unchanged) == (3, 3)

    other = desk.bring(letters, charset="cp437")
    assert (sent(other), other.unchanged) == (["ferry.html", "ferry.txt"], 1)
    assert desk.client.docs.text("ferry.txt", collection=desk.collection).text == told.encode("latin-1").decode("cp437")
    # One file of it, and by hand.
    assert desk.run(letters / "ferry.txt", "--charset", "latin1").returncode == 0
    assert desk.client.docs.text("ferry.txt", collection=desk.collection).text == told
    again = desk.client.docs.add(letters / "ferry.txt", collection=desk.collection, document="own", charset="latin1")
    assert (again.document, again.media_type) == ("own", "text/plain; charset=iso8859-1")


def test_two_files_that_would_be_one_document_are_not_brought(desk, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "leave.md").write_text("# Leave\n\nNone.\n")
    for paths in ((folder / "leave.md", other / "leave.md"), (folder, other)):
        ran = desk.run(*paths)
        assert ran.returncode == 2
        # Words of a sentence that the terminal's width breaks.
        assert "--prefix" in ran.stderr
    assert desk.run(folder / "leave.md", folder).returncode == 0
    assert len(desk.documents()) == 3


def test_files_of_no_kind_that_is_read_are_named(desk, folder):
    assert desk.bring(folder).left_out == ("quay/gate.step",)
    ran = desk.run(folder)
    assert not missing(ran.stderr, "1 file", "--include", "quay/gate.step")
    assert desk.bring(folder, exclude=["*.step"]).left_out == ()


def test_what_fails_counts_once_and_says_why_whenever_it_is_listed(desk, tmp_path):
    (tmp_path / "whole.md").write_text("# Whole\n")
    (tmp_path / "half.pdf").write_bytes(b"%PDF-1.4 half")
    ran = desk.run(tmp_path / "whole.md", tmp_path / "half.pdf")
    assert ran.returncode == 4
    assert "1 stored, 0 unchanged, 1 refused, 0 deleted" in ran.stderr
    reason = desk.documents()["half.pdf"].reason
    assert reason
    assert reason[:20] in desk.docs("list", "-c", desk.collection).stdout


@pytest.mark.parametrize("how", [(), ("--watch",), ("--watch", "--json")], ids=" ".join)
def test_without_a_terminal_a_folder_that_is_pruned_wants_a_yes(desk, folder, how):
    ran = desk.run(folder, "--prune", *how)
    assert (ran.returncode, "--yes" in ran.stderr) == (2, True)
    assert not list(desk.client.collections.list())


def test_a_collection_is_deleted_once_somebody_knows_how_much_is_in_it_and_agrees(desk, folder):
    desk.bring(folder)
    everything = ("rm", "--all", "-c", desk.collection)
    alone = desk.docs(*everything)
    assert (alone.returncode, "--yes" in alone.stderr) == (2, True)
    kept = desk.docs(*everything, answer="n\n")
    assert (kept.returncode, kept.stdout.strip()) == (1, "")
    assert not missing(kept.stderr, desk.collection, "3 documents")
    assert len(desk.documents()) == 3
    assert desk.docs(*everything, answer="y\n").stdout.split()[1:] == ["3", "documents."]
    desk.bring(folder)
    said = desk.docs(*everything, "--yes")
    assert (said.returncode, said.stdout, said.stderr) == (0, "Deleted 3 documents.\n", "")


def test_a_deletion_is_shown_and_asked_about(desk, folder):
    desk.bring(folder)
    (folder / "leave.md").unlink()
    kept = desk.run(folder, "--prune", answer="n\n")
    assert kept.returncode == 0
    assert "  leave.md\n" in kept.stderr
    assert "leave.md" in desk.documents()
    gone = desk.run(folder, "--prune", answer="y\n")
    assert "0 stored, 2 unchanged, 0 refused, 1 deleted" in gone.stderr
    assert "leave.md" not in desk.documents()


def test_a_file_that_is_left_out_by_a_glob_is_not_gone(desk, folder):
    desk.bring(folder)
    assert desk.bring(folder, exclude=["quay"], prune=True).pruned == ()
    assert len(desk.documents()) == 3


def test_a_folder_is_followed_through_changes_and_a_restart_of_the_server(stack, embedder_address, tmp_path, folder):
    library = Library(stack, tmp_path / "library", embedder_address)
    desk = Desk(library)
    command, environment = desk.command(folder, "--watch", "--prune", "--yes", "--json")
    following = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert following.stdout is not None
    lines, reports = following.stdout, list[dict[str, Any]]()
    reading = threading.Thread(target=lambda: reports.extend(map(json.loads, lines)), daemon=True)
    reading.start()

    def seen(key, name):
        return any(name in (item if isinstance(item, str) else item["document"]) for r in reports for item in r[key])

    try:
        eventually(lambda: seen("stored", "leave.md"), "the first pass")
        (folder / "new.md").write_text("# New\n\nThe siren sounds three times.\n")
        eventually(lambda: seen("stored", "new.md"), "a new file is stored")
        (folder / "new.md").rename(folder / "siren.md")
        eventually(lambda: seen("pruned", "new.md"), "a name that went is deleted")
        held = desk.documents()
        assert (held["siren.md"].chunks_embedded, held["siren.md"].chunks_reused) == (0, 1)

        library.process.kill()
        (folder / "late.md").write_text("# Late\n\nBread is baked on Mondays.\n")
        (folder / "quay" / "mooring.md").unlink()
        eventually(lambda: any(r["waits"] for r in reports), "it says that it waits")
        library.process.start()
        eventually(lambda: seen("stored", "late.md") and seen("pruned", "mooring.md"), "it goes on")
        assert set(desk.documents()) == {"leave.md", "quay/storms.txt", "siren.md", "late.md"}

        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 130
    finally:
        following.kill()
        following.wait()
        desk.client.close()
        library.close()


def test_a_folder_that_is_moved_away_has_lost_nothing_and_is_followed_when_it_is_back(desk, folder):
    reports = desk.client.docs.follow_folder(folder, collection=desk.collection, prune=True)
    assert len(next(reports).stored) == 3
    away = Path(f"{folder}-away")
    folder.rename(away)
    assert "not there" in next(reports).waits
    assert len(desk.documents()) == 3
    (away / "leave.md").unlink()
    away.rename(folder)
    assert next(reports).pruned == ("leave.md",)
    (folder / "back.md").write_text("# Back\n")
    assert sent(next(reports)) == ["back.md"]
    reports.close()
