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
from tests.harness.wording import missing
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
    assert not missing(models("evaluate", "desk@1", "accuracy", "0.5").out, "desk@1", "accuracy 0.5")
    assert not missing(models("tag", "desk@1", "first").out, "desk@1", "first")
    assert missing(models("tag", "desk@1", "--remove", "first").out, "desk@1", "first") == ["first"]
    found = models("search", "--metric", "accuracy", "--least", "0.4", "--order", "highest", "--json").json
    assert [(item["number"], item["value"]) for item in found] == [(2, 0.9), (1, 0.5)]
    assert [item["number"] for item in models("search", "--tag", "best", "--json").json] == [2]
    nothing = models("search", "nothing")
    assert (nothing.code, "desk" in nothing.out, models("search", "nothing", "--json").json) == (0, False, [])
    assert (models("search", "--least", "1").code, models("search", "--order", "odd").code) == (4, 4)
    shown = models("show", "desk@2", "--json").json
    assert [item["value"] for item in shown["evaluations"]] == [0.9]
    assert "best" in models("show", "desk").out


def test_a_card_is_set_from_a_file_and_shown_without_commanding_the_terminal(
    user: User, models: Models, tmp_path: Path
):
    user.publish("desk")
    assert "no card" in models("card", "desk").out
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
    assert (refused.code, missing(refused.err, file, "UTF-8")) == (4, [])


def test_a_gate_holds_a_version_back_and_says_what_to_do(stack: Stack, user: User, models: Models):
    ready(stack, user, 2)
    assert models("alias", "desk", "1", "--json").json["state"] == "serving"
    added = models("gate", "add", "desk", "good", "accuracy", "--required", "0.8", "--not-forget", "general", "--json")
    assert (added.json["required_value"], added.json["forgetting"]["metric"]) == (0.8, "general")
    refused = models("alias", "desk", "2", "--why", "it is newer")
    assert (refused.code, missing(refused.err, "gate good", "no evaluation of accuracy")) == (4, [])
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
    assert not missing(models("rollback", "desk").out, "desk@prod", one)
    added = models("gate", "add", "desk", "good", "accuracy", "--required", "0.9").out
    assert not missing(added, "good", "desk", "accuracy", "at least 0.9", "canary", "rollback")
    assert models("alias", "desk", "2").code == 4
    assert models("canary", "desk", "2", "10").code == 0
    assert not missing(models("rollback", "desk").out, "desk@prod", two)
    kinds = [move["kind"] for move in models("moves", "desk", "--json").json]
    assert kinds == ["rollback", "canary", "refused", "rollback", "set", "set"]
    strict = models("gate", "add", "desk", "strict", "accuracy", "--rollbacks").out
    assert missing(strict, "strict", "canary", "rollback") == ["rollback"]
    assert models("rollback", "desk").code == 4


def test_a_tag_and_an_alias_that_are_none_are_refused_in_words(user: User, models: Models):
    user.publish("desk")
    for how in ((), ("--remove",)):
        refusal = models("tag", "desk@1", *how, "Bad Tag!!")
        assert (refusal.code, missing(refusal.err, "tag", "63", "lower-case letters")) == (4, [])
        assert "a-z" not in refusal.err
    for bad in ("-", "a-", "a" * 64, "A", "a b", "ä", "a\n"):
        assert models("tag", "desk@1", bad).code != 0, bad
    for good in ("a", "a" * 63, "1.0_rc-1"):
        assert models("tag", "desk@1", good).code == 0, good
    refusal = models("alias", "desk@Bad Alias", "1")
    assert (refusal.code, missing(refusal.err, "alias", "32", "lower-case letters")) == (4, [])
    assert "a-z" not in refusal.err


def test_a_canary_gets_a_share_and_the_alias_shows_it(stack: Stack, user: User, models: Models):
    versions = ready(stack, user, 2)
    models("alias", "desk", "1")
    shared = models("canary", "desk", "2", "10", "--why", "try it", "--json").json
    assert [(item["version"], item["percent"], item["state"]) for item in shared["canaries"]] == [
        (versions[1], 10, "serving")
    ]
    assert "canaries" in models("show", "desk").out
    assert models("canary", "desk", "1", "10").code == 4
    assert models("canary", "desk", "2", "101").code == 2
    ended = models("canary", "desk@prod", "2", "0")
    assert "no canary" in ended.out


def test_what_is_deleted_is_restored_and_what_is_held_is_not_deleted(stack: Stack, user: User, models: Models):
    ready(stack, user, 2)
    held = models("rm", "desk@2")
    assert (held.code, missing(held.err, "desk@2", "g1")) == (4, [])
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
    assert not missing(models("keep", "desk").out, "desk", "3", "9 days")
    assert missing(models("keep", "desk", "--last", "0", "--days", "0").out, "desk", "every", "0") == ["0"]


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
    assert "the base" in models("lineage", "desk@1").out
    assert "nothing" in models("lineage", "other@1").out
    began = "sha256:" + "b" * 64
    user.publish(
        "whole", TinyModel().files(), kind=model_pb2.VERSION_KIND_FULL, base_digest="", lineage={"base_digest": began}
    )
    assert not missing(models("lineage", "whole@1").out, f"base {began}")


def test_a_line_says_what_an_alias_serves_and_what_becomes_of_its_target(stack: Stack, user: User, models: Models):
    first, second = ready(stack, user, 2)
    third = user.publish("desk").version
    assert missing(models("alias", "desk", "1").out, "desk@prod", first, second) == [second]
    assert missing(models("alias", "desk", "2").out, "desk@prod", first, second) == [first]
    waiting = models("alias", "desk", "3", "--no-wait").out
    assert not missing(waiting, f"desk@prod serves {second}", third, "0 of 1")
    assert models("alias", "desk", "2").code == 0

    def refuse() -> None:
        eventually(lambda: user.alias("desk").target_version == third, "the target is set")
        stack.service().report("g1", user.tenant, third, "FAILED", "it does not fit")

    with ThreadPoolExecutor(1) as pool:
        refusing = pool.submit(refuse)
        failed = models("alias", "desk", "3")
        refusing.result()
    assert failed.code == 4
    assert "Interrupting" in failed.err
    assert not missing(failed.out, f"desk@prod serves {second}", third, "it does not fit")


def test_what_has_no_version_yet_is_refused_with_what_to_say_instead(
    stack: Stack, user: User, models: Models, tmp_path: Path
):
    user.publish("desk")
    out = str(tmp_path / "out")
    unnamed = models("export", "desk", out)
    assert (unnamed.code, missing(unnamed.err, "desk", "alias prod", "desk@NUMBER")) == (3, [])
    user.point("desk", user.publish("desk").version)
    empty = models("export", "desk", out)
    assert (empty.code, missing(empty.err, "desk@prod", "nothing", "desk@NUMBER")) == (4, [])
    unknown = models("export", "desc", out)
    assert (unknown.code, missing(unknown.err, "desc", "desk")) == (3, [])
    slip = models("rm", "desk@prod")
    assert (slip.code, missing(slip.err, "--alias")) == (2, [])
    written = models("export", "desk@1", out)
    assert not missing(written.out, out, "desk@1", "2 files", "459 bytes")
    assert "sha256:" in written.out


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
    assert not missing(refusal.err, tmp_path, pickle, "pickle", weights)
    assert "model.save_pretrained(FOLDER, safe_serialization=True)" in refusal.err
    # Beside safetensors it is left out, and stays what it is.
    (tmp_path / weights).write_bytes(b"{}")
    assert "pickle" not in models("import", str(tmp_path), "--name", "desk", *named).err


def test_models_that_no_alias_serves_and_deleted_ones_are_listed(user: User, models: Models):
    user.publish("desk")
    user.publish("other")
    assert [item["model"] for item in models("list", "--all", "--json").json] == ["desk", "other"]
    assert not missing(models("rm", "other", "--all").out, "other")
    assert [item["model"] for item in models("list", "--all", "--json").json] == ["desk"]
    assert [item["model"] for item in models("list", "--deleted", "--json").json] == ["desk", "other"]
    restored, again = models("restore", "other"), models("restore", "other")
    assert (restored.code, "not deleted" in restored.out, again.code, "not deleted" in again.out) == (0, False, 0, True)
    assert "not deleted" in models("restore", "other@1").out
    assert models("restore", "other@1", "--json").json["number"] == 1
    user.publish("other")
    models("rm", "other", "--all")
    # Its model is back with it, and what else went with that can follow.
    for name, deleted in (("other@2", True), ("other", True), ("other@1", False)):
        told = models("restore", name).out
        assert (missing(told, name), "not deleted" in told) == ([], not deleted), told
    assert models("restore", "other@7").code == 3


def test_a_version_that_is_deleted_says_until_when_it_can_be_restored(stack: Stack, user: User, models: Models):
    version = user.publish("desk")
    assert models("rm", "desk@1").code == 0
    (gone,) = models("show", "desk", "--deleted", "--json").json["versions"]
    until = gone["purge_time"][:16].replace("T", " ")
    deleted = ("deleted", "trivium models restore desk@1", f"{until} UTC")
    shown = models("show", "desk@1")
    assert (shown.code, missing(shown.err, "desk@1", *deleted)) == (3, []), shown.err
    assert not missing(models("alias", "desk", version.version[:20]).err, *deleted)
    unknown = models("show", "desk@2").err
    assert (missing(unknown, "desk@2"), "deleted" in unknown) == ([], False)
    # Whose it is not, hears nothing of it.
    stranger = stack.newcomer()
    stranger.publish("desk")
    with refused("VERSION_NOT_FOUND") as failures:
        stranger.api.GetVersion(registry_pb2.GetVersionRequest(version=version.version))
    assert (failures[0].variables["name"], failures[0].variables["fate"]) == (version.version, "")
    assert models("restore", "desk@1").code == 0
    assert models("show", "desk@1").code == 0


def test_a_gate_says_what_it_asks_for_and_refuses_half_a_bound(user: User, models: Models):
    user.publish("desk")
    said = models("gate", "add", "desk", "good", "accuracy", "--required", "0.8", "--not-forget", "general").out
    assert not missing(said, "good", "desk", "accuracy", "at least 0.8", "general", "0")
    lower = models("gate", "add", "desk", "low", "loss", "--lower", "--required", "2", "--alias", "prod").out
    assert not missing(lower, "low", "desk@prod", "loss", "at most 2")
    measured = models("gate", "add", "desk", "any", "loss").out
    assert missing(measured, "any", "desk", "loss", "at least", "at most") == ["at least", "at most"]
    half = models("gate", "add", "desk", "half", "accuracy", "--most-loss", "0.1")
    assert (half.code, "--not-forget" in half.err) == (2, True)


def test_an_import_says_what_was_made_and_refuses_a_base_for_a_full_model(user: User, models: Models, tmp_path: Path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in Adapter().files().items():
        (folder / name).write_bytes(content)
    made = models("import", str(folder), "--name", "desk", "--base-digest", BASE_DIGEST)
    assert made.code == 0, made.err
    assert not missing(made.out, "desk@1")
    assert "sha256:" in made.out
    assert not missing(made.out, "adapter", "rank 2")
    assert "trivium models alias desk 1" in made.err
    assert "rank" in models("show", "desk@1").out
    refused = models("import", "hf:org/name@main", "--name", "own", "--base", "base")
    assert (refused.code, missing(refused.err, "adapter", "base")) == (2, [])
