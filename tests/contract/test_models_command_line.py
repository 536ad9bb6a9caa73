"""`trivium models` against a running registry: what is decided about versions, as people type it."""

import io
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium_client.cli import main

from tests.adapters import BASE_DIGEST, Adapter
from tests.stack import Stack, User, eventually, refused
from tests.tiny_model import TinyModel


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed as JSON; it must have ended well."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Models = Callable[..., Ran]


@pytest.fixture
def models(stack: Stack, user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Models:
    """Run `trivium models …` in this process, with a key of the user's tenant."""
    monkeypatch.setenv("TRIVIUM_REGISTRY_ADDRESS", stack.registry.address)
    monkeypatch.setenv("TRIVIUM_API_KEY", stack.tenant_key(user.tenant))

    def run(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "argv", ["trivium", "models", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else int(bool(code)), shown.out, shown.err)

    return run


def ready(stack: Stack, user: User, count: int) -> list[str]:
    """Versions of the model desk that a generator holds."""
    versions = [user.publish("desk").version for _ in range(count)]
    for version in versions:
        stack.service().report("g1", user.tenant, version, "READY")
    return versions


def test_a_version_is_tagged_measured_and_found(user: User, models: Models):
    user.publish("desk")
    user.publish("desk")
    assert models("tag", "desk@2", "best", "old", "--json").json["tags"] == ["best", "old"]
    assert models("tag", "desk@2", "--remove", "old", "--json").json["tags"] == ["best"]
    recorded = models("evaluate", "desk@2", "accuracy", "0.9", "--rows", "10", "--note", "greedy", "--json").json
    assert (recorded["value"], recorded["dataset_rows"], recorded["note"]) == (0.9, 10, "greedy")
    assert models("evaluate", "desk@1", "accuracy", "0.5").out == "desk@1 has accuracy 0.5.\n"
    assert models("tag", "desk@1", "first").out == "desk@1 has the tags first.\n"
    assert models("tag", "desk@1", "--remove", "first").out == "desk@1 has no tags.\n"
    found = models("search", "--metric", "accuracy", "--least", "0.4", "--order", "highest", "--json").json
    assert [(item["number"], item["value"]) for item in found] == [(2, 0.9), (1, 0.5)]
    assert [item["number"] for item in models("search", "--tag", "best", "--json").json] == [2]
    assert "No version is like that." in models("search", "nothing").out
    assert (models("search", "--least", "1").code, models("search", "--order", "odd").code) == (4, 4)
    shown = models("show", "desk@2", "--json").json
    assert [item["value"] for item in shown["evaluations"]] == [0.9]
    assert "best" in models("show", "desk").out


def test_a_card_is_set_from_a_file_and_shown_without_commanding_the_terminal(
    user: User, models: Models, tmp_path: Path
):
    user.publish("desk")
    assert "It has no card." in models("card", "desk").out
    file = tmp_path / "card.md"
    file.write_text("# Desk\n\nAnswers \x1b[31mquestions.\n", "utf-8")
    assert models("card", "desk", str(file), "--task", "answering").code == 0
    assert models("card", "desk").out == "# Desk\n\nAnswers [31mquestions.\n"
    shown = models("show", "desk")
    assert "# Desk\n\nAnswers" in shown.out
    assert "\x1b[31m" not in shown.out
    assert models("card", "desk", "-", "--json", stdin="short").json["card"] == "short"
    assert models("card", "desk", str(tmp_path / "none.md")).code == 4
    file.write_bytes(b"\xff\xfe")
    refused = models("card", "desk", str(file))
    assert (refused.code, refused.err) == (4, f"trivium: {file} is no text in UTF-8\n")


def test_a_gate_holds_a_version_back_and_says_what_to_do(stack: Stack, user: User, models: Models):
    ready(stack, user, 2)
    assert models("alias", "desk", "1", "--json").json["state"] == "serving"
    added = models("gate", "add", "desk", "good", "accuracy", "--required", "0.8", "--not-forget", "general", "--json")
    assert (added.json["required_value"], added.json["forgetting"]["metric"]) == (0.8, "general")
    refused = models("alias", "desk", "2", "--why", "it is newer")
    assert (refused.code, "gate good: it has no evaluation of accuracy; record one" in refused.err) == (4, True)
    assert [gate["gate"] for gate in models("gate", "list", "desk", "--json").json] == ["good"]
    assert "accuracy" in models("gate", "list", "desk").out
    assert models("gate", "rm", "desk", "good").code == 0
    assert models("gate", "rm", "desk", "good").code == 3
    assert models("alias", "desk", "2", "--why", "it is newer").code == 0
    assert models("rollback", "desk", "--why", "it is worse", "--json").json["serving_version"]
    told = models("moves", "desk", "--json").json
    assert [(move["kind"], move["reason"]) for move in told] == [
        ("rollback", "it is worse"), ("set", "it is newer"), ("refused", "it is newer"), ("set", ""),
    ]  # fmt: skip
    assert "no evaluation of accuracy" in models("moves", "desk").out


def test_what_was_rolled_away_from_comes_back_by_its_gates_or_by_a_rollback(stack: Stack, user: User, models: Models):
    one, two = ready(stack, user, 2)
    models("alias", "desk", "1")
    models("alias", "desk", "2")
    assert models("rollback", "desk").out == f"desk@prod serves {one}.\n"
    added = models("gate", "add", "desk", "good", "accuracy", "--required", "0.9").out
    assert " ".join(added.split()) == (
        "Gate good guards desk: accuracy of at least 0.9. A canary and a rollback are not asked."
    )
    assert models("alias", "desk", "2").code == 4
    assert models("canary", "desk", "2", "10").code == 0
    assert models("rollback", "desk").out == f"desk@prod serves {two}.\n"
    kinds = [move["kind"] for move in models("moves", "desk", "--json").json]
    assert kinds == ["rollback", "canary", "refused", "rollback", "set", "set"]
    assert models("gate", "add", "desk", "strict", "accuracy", "--rollbacks").out.endswith("A canary is not asked.\n")
    assert models("rollback", "desk").code == 4


def test_a_tag_and_an_alias_that_are_none_are_refused_in_words(user: User, models: Models):
    user.publish("desk")
    for how in ((), ("--remove",)):
        refusal = models("tag", "desk@1", *how, "Bad Tag!!")
        assert (refusal.code, "a tag is 1 to 63 lower-case letters, digits, dots" in refusal.err) == (4, True)
        assert "a-z" not in refusal.err
    for bad in ("-", "a-", "a" * 64, "A", "a b", "ä", "a\n"):
        assert models("tag", "desk@1", bad).code != 0, bad
    for good in ("a", "a" * 63, "1.0_rc-1"):
        assert models("tag", "desk@1", good).code == 0, good
    refusal = models("alias", "desk@Bad Alias", "1")
    assert (refusal.code, "an alias is 1 to 32 lower-case letters, digits and hyphens" in refusal.err) == (4, True)
    assert "a-z" not in refusal.err


def test_a_canary_gets_a_share_and_the_alias_shows_it(stack: Stack, user: User, models: Models):
    versions = ready(stack, user, 2)
    models("alias", "desk", "1")
    shared = models("canary", "desk", "2", "10", "--why", "try it", "--json").json
    assert [(item["version"], item["percent"], item["state"]) for item in shared["canaries"]] == [
        (versions[1], 10, "serving")
    ]
    assert "canaries of prod" in models("show", "desk").out
    assert models("canary", "desk", "1", "10").code == 4
    assert models("canary", "desk", "2", "101").code == 2
    ended = models("canary", "desk@prod", "2", "0")
    assert "It has no canary." in ended.out


def test_what_is_deleted_is_restored_and_what_is_held_is_not_deleted(stack: Stack, user: User, models: Models):
    ready(stack, user, 2)
    held = models("rm", "desk@2")
    assert (held.code, "held ready by g1" in held.err) == (4, True)
    assert models("rm", "desk@2", "--force").code == 0
    assert models("show", "desk@2").code == 3
    assert [item["number"] for item in models("show", "desk", "--deleted", "--json").json["versions"]] == [2, 1]
    assert models("restore", "desk@2", "--json").json["number"] == 2
    assert models("rm", "desk", "--all", "--force").code == 0
    assert models("show", "desk").code == 3
    assert models("restore", "desk", "--json").json["model"] == "desk"
    unasked = models("rm", "desk@1", "--purge", "--force")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert models("show", "desk@1").code == 0
    assert models("rm", "desk@1", "--purge", "--force", "--yes").code == 0
    assert models("restore", "desk@1").code == 3
    kept = models("keep", "desk", "--last", "3", "--json").json
    assert (kept["keep_last"], kept["keep_days"]) == (3, 0)
    both = models("keep", "desk", "--days", "9", "--json").json
    assert (both["keep_last"], both["keep_days"]) == (3, 9)
    assert models("keep", "desk").out == "desk keeps its newest 3 and those younger than 9 days.\n"
    assert models("keep", "desk", "--last", "0", "--days", "0").out == "desk keeps every version.\n"


def test_who_deleted_restored_and_purged_what_is_listed_with_the_reason(user: User, models: Models):
    version = user.publish("desk").version
    user.publish("desk")
    assert models("rm", "desk@1", "--why", "a leak").code == 0
    assert models("restore", "desk@1", "--why", "none after all").code == 0
    assert models("rm", "desk@1", "--purge", "--yes", "--why", "one after all").code == 0
    assert models("rm", "desk", "--all", "--why", "moved house").code == 0
    told = models("moves", "desk", "--deletions", "--json").json
    assert [(item["kind"], item["version_number"], item["reason"], item["detail"]) for item in told] == [
        ("model_deleted", 0, "moved house", ""),
        ("version_deleted", 2, "moved house", "with its model"),
        ("version_purged", 1, "one after all", ""),
        ("version_deleted", 1, "one after all", ""),
        ("version_restored", 1, "none after all", ""),
        ("version_deleted", 1, "a leak", ""),
    ]
    assert all(item["principal"] and item["create_time"] for item in told)
    assert told[2]["version"] == version
    assert "one after all" in models("moves", "desk", "--deletions").out
    assert models("moves", "desk@prod", "--deletions").code == 2


def test_lineage_is_drawn_both_ways(user: User, models: Models):
    parent = user.publish("desk", lineage={"job": "job-1", "dataset_digest": "sha256:" + "d" * 64}).version
    child = user.publish("desk", lineage={"parent_version": parent}).version
    grandchild = user.publish("other", lineage={"parent_version": child}).version
    assert models("lineage", "desk@2").out.splitlines() == [
        "made from:",
        f"  desk@1 {parent} by job-1",
        f"desk@2 {child}",
        "led to:",
        f"  other@1 {grandchild}",
    ]
    whole = models("lineage", "desk@1", "--json").json
    assert [item["version"]["version"] for item in whole["descendants"]] == [child, grandchild]
    assert "made from the base" in models("lineage", "desk@1").out
    assert "led to nothing yet" in models("lineage", "other@1").out
    began = "sha256:" + "b" * 64
    user.publish(
        "whole", TinyModel().files(), kind=model_pb2.VERSION_KIND_FULL, base_digest="", lineage={"base_digest": began}
    )
    assert f"made from the base {began}\n" in models("lineage", "whole@1").out


def test_a_line_says_what_an_alias_serves_and_what_becomes_of_its_target(stack: Stack, user: User, models: Models):
    first, second = ready(stack, user, 2)
    third = user.publish("desk").version
    assert models("alias", "desk", "1").out == f"desk@prod serves {first}.\n"
    assert models("alias", "desk", "2").out == f"desk@prod serves {second}.\n"
    waiting = models("alias", "desk", "3", "--no-wait").out
    assert waiting.startswith(f"desk@prod serves {second}; {third} is not ready yet: 0 of 1 generators are ready")
    assert models("alias", "desk", "2").code == 0

    def refuse() -> None:
        eventually(lambda: user.alias("desk").target_version == third, "the target is set")
        stack.service().report("g1", user.tenant, third, "FAILED", "it does not fit")

    with ThreadPoolExecutor(1) as pool:
        refusing = pool.submit(refuse)
        failed = models("alias", "desk", "3")
        refusing.result()
    assert failed.code == 4
    assert "Interrupting this does not undo it." in failed.err
    assert failed.out == f"desk@prod serves {second}; {third} could not be loaded: it does not fit.\n"


def test_what_has_no_version_yet_is_refused_with_what_to_say_instead(
    stack: Stack, user: User, models: Models, tmp_path: Path
):
    user.publish("desk")
    out = str(tmp_path / "out")
    unnamed = models("export", "desk", out)
    assert (unnamed.code, "desk has no alias prod; say which version: desk@NUMBER" in unnamed.err) == (3, True)
    user.point("desk", user.publish("desk").version)
    empty = models("export", "desk", out)
    assert (empty.code, "desk@prod serves nothing yet (" in empty.err) == (4, True)
    assert "desk@NUMBER" in empty.err
    unknown = models("export", "desc", out)
    assert (unknown.code, "Names like it: desk" in unknown.err) == (3, True)
    slip = models("rm", "desk@prod")
    assert (slip.code, "say --alias" in slip.err) == (2, True)
    written = models("export", "desk@1", out)
    assert written.out.startswith(f"{out} holds desk@1, sha256:")
    assert written.out.endswith(": 2 files, 459 bytes.\n")


@pytest.mark.parametrize(
    ("config", "weights", "pickle"),
    [
        ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
        ("config.json", "model.safetensors", "pytorch_model-00001-of-00002.bin"),
    ],
)
def test_weights_in_a_pickle_are_never_read_and_it_is_said_how_to_convert_them(
    models: Models, tmp_path: Path, config: str, weights: str, pickle: str
):
    (tmp_path / config).write_text("{}")
    (tmp_path / pickle).write_bytes(b"PK\x03\x04")
    named = ("--base-digest", BASE_DIGEST) if config == "adapter_config.json" else ()
    refusal = models("import", str(tmp_path), "--name", "desk", *named)
    assert refusal.code == 4
    assert f"holds {pickle}, a pickle, which is never read, and no {weights}" in refusal.err
    assert "model.save_pretrained(FOLDER, safe_serialization=True)" in refusal.err
    # Beside safetensors it is left out, and stays what it is.
    (tmp_path / weights).write_bytes(b"{}")
    assert "pickle" not in models("import", str(tmp_path), "--name", "desk", *named).err


def test_models_that_no_alias_serves_and_deleted_ones_are_listed(user: User, models: Models):
    user.publish("desk")
    user.publish("other")
    assert [item["model"] for item in models("list", "--all", "--json").json] == ["desk", "other"]
    assert models("rm", "other", "--all").out == "Deleted other.\n"
    assert [item["model"] for item in models("list", "--all", "--json").json] == ["desk"]
    assert [item["model"] for item in models("list", "--deleted", "--json").json] == ["desk", "other"]
    assert models("restore", "other").out == "Restored other.\n"
    assert models("restore", "other").out == "other is not deleted; there is nothing to restore.\n"
    assert models("restore", "other@1").out == "other@1 is not deleted; there is nothing to restore.\n"
    assert models("restore", "other@1", "--json").json["number"] == 1
    user.publish("other")
    models("rm", "other", "--all")
    # Its model is back with it, and what else went with that can follow.
    assert models("restore", "other@2").out == "Restored other@2.\n"
    assert models("restore", "other").out == "Restored other.\n"
    assert models("restore", "other@1").out == "other@1 is not deleted; there is nothing to restore.\n"
    assert models("restore", "other@7").code == 3


def test_a_version_that_is_deleted_says_until_when_it_can_be_restored(stack: Stack, user: User, models: Models):
    version = user.publish("desk")
    assert models("rm", "desk@1").code == 0
    (gone,) = models("show", "desk", "--deleted", "--json").json["versions"]
    until = gone["purge_time"][:16].replace("T", " ")
    deleted = f"it is deleted, and RestoreVersion (trivium models restore desk@1) brings it back until {until} UTC."
    shown = models("show", "desk@1")
    assert (shown.code, f"No version is named desk@1: {deleted}" in shown.err) == (3, True), shown.err
    assert deleted in models("alias", "desk", version.version[:20]).err
    assert "No version is named desk@2.\n" in models("show", "desk@2").err
    # Whose it is not, hears nothing of it.
    stranger = stack.newcomer()
    stranger.publish("desk")
    with refused("VERSION_NOT_FOUND") as failures:
        stranger.api.GetVersion(registry_pb2.GetVersionRequest(version=version.version))
    assert failures[0].message == f"No version is named {version.version}."
    assert models("restore", "desk@1").code == 0
    assert models("show", "desk@1").code == 0


def test_a_gate_says_what_it_asks_for_and_refuses_half_a_bound(user: User, models: Models):
    user.publish("desk")
    said = models("gate", "add", "desk", "good", "accuracy", "--required", "0.8", "--not-forget", "general").out
    assert (
        said
        == "Gate good guards desk: accuracy of at least 0.8, general worse by 0 at most. A canary and a rollback are not asked.\n"
    )
    lower = models("gate", "add", "desk", "low", "loss", "--lower", "--required", "2", "--alias", "prod").out
    assert lower == "Gate low guards desk@prod: loss of at most 2. A canary and a rollback are not asked.\n"
    measured = models("gate", "add", "desk", "any", "loss").out
    assert measured == "Gate any guards desk: loss must have been measured. A canary and a rollback are not asked.\n"
    half = models("gate", "add", "desk", "half", "accuracy", "--most-loss", "0.1")
    assert (half.code, "--not-forget" in half.err) == (2, True)


def test_an_import_says_what_was_made_and_refuses_a_base_for_a_full_model(user: User, models: Models, tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in Adapter().files().items():
        (folder / name).write_bytes(content)
    made = models("import", str(folder), "--name", "desk", "--base-digest", BASE_DIGEST)
    assert made.code == 0, made.err
    assert made.out.startswith("desk@1 is sha256:")
    assert made.out.endswith(", an adapter of rank 2.\n")
    assert "Serve it with: trivium models alias desk 1" in made.err
    assert "rank" in models("show", "desk@1").out
    refused = models("import", "hf:org/name@main", "--name", "own", "--base", "base")
    assert (refused.code, "only an adapter has a base" in refused.err) == (2, True)
