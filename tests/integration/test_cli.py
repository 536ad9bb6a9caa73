"""The command line against a running suite: the everyday journey, with exit codes that scripts can rely on."""

import hashlib
import json
import re
import shlex
import uuid
from pathlib import Path
from typing import Any

import pytest

from services.ops.cache import CHECKOUT
from services.ops.supervisor import Suite
from tests.encoder_files import EncoderFiles
from tests.harness.command_line import Ran
from tests.integration.command_line import on_a_terminal, trivium, trivium_process
from tests.integration.gateway.stock import Served, serve_adapter

# Some commands wait for training, which has what the rest of the machine leaves it.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def adapter(suite: Suite) -> Served:
    """A served adapter."""
    return serve_adapter(suite, "cli-voice", seed=9)


@pytest.fixture
def collection() -> str:
    return f"cli-{uuid.uuid4().hex[:8]}"


def test_documents_are_added_listed_asked_about_and_removed(suite: Suite, tmp_path: Path, collection: str) -> None:
    (tmp_path / "ferry.md").write_text("# Ferry\n\nThe ferry leaves from pier Kolmbrook at noon.\n")
    (tmp_path / "fares.md").write_text("# Fares\n\nA child pays 3 crowns for the ferry.\n")

    added = trivium(suite, "docs", "add", str(tmp_path), "-c", collection, "--json")
    assert added.code == 0, added.err
    assert {(document["document"], document["state"]) for document in added.json} == {
        ("ferry.md", "ready"),
        ("fares.md", "ready"),
    }

    question = ("ask", "From which pier does the ferry leave?", "-c", collection, "--max-tokens", "16")
    asked = trivium(suite, *question, "--json")
    assert asked.code == 0, asked.err
    assert asked.json["sources"][0]["span"]["document"] == "ferry.md"
    assert asked.json["final"]["receipt"]["engine_slot"] == -1
    told = trivium(suite, *question).out
    assert "1] ferry.md 0-" in told or "(1) ferry.md 0-" in told

    assert trivium(suite, "docs", "rm", "ferry.md", "-c", collection).code == 0
    listed = trivium(suite, "docs", "list", "-c", collection, "--json")
    assert [document["document"] for document in listed.json] == ["fares.md"]
    assert trivium(suite, "docs", "rm", "--all", "-c", collection, "--yes", "--json").json == {"deleted": 1}


def test_a_collection_is_not_made_for_files_that_are_refused(suite: Suite, tmp_path: Path, collection: str) -> None:
    (tmp_path / "empty.md").write_text(" \n")
    refused = trivium(suite, "docs", "add", str(tmp_path), "-c", collection)
    assert (refused.code, "Nothing" in refused.out) == (4, True)
    assert "empty.md" in refused.err
    assert trivium(suite, "docs", "list", "-c", collection).code == 3

    (tmp_path / "pier.md").write_text("The pier is closed in winter.\n")
    assert trivium(suite, "docs", "add", str(tmp_path), "-c", collection, "--no-wait").code == 4
    listed = trivium(suite, "docs", "list", "-c", collection, "--json").json
    assert [document["document"] for document in listed] == ["pier.md"]


def test_an_encoder_is_listed_with_its_role_once_it_is_imported(suite: Suite, tmp_path: Path) -> None:
    for name, content in EncoderFiles().files().items():
        (tmp_path / name).write_bytes(content)
    model = f"finder-{uuid.uuid4().hex[:8]}"
    made = trivium(suite, "models", "import", str(tmp_path), "--name", model, "--json")
    assert made.code == 0, made.err
    served, *_ = listed = trivium(suite, "models", "list", "--json").json
    assert (served["name"], served["role"]) == ("base", "")
    (mine,) = [row for row in listed if row["name"].startswith(model)]
    expected = (f"{model}@1", "encoder", "embedder", made.json["version"])
    assert (mine["name"], mine["kind"], mine["role"], mine["version"]) == expected


def test_other_rows_under_a_name_are_its_next_version_and_names_may_share_bytes(suite: Suite, tmp_path: Path) -> None:
    name = f"named-{uuid.uuid4().hex[:8]}"

    def add(word: str, wanted: str) -> tuple[str, int, str]:
        (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": name, "completion": word}) + "\n")
        added = trivium(suite, "data", "add", str(tmp_path / "rows.jsonl"), "--name", wanted, "--json")
        assert added.code == 0, added.err
        return added.json["dataset"], added.json["version"], added.json["digest"]

    first, version, digest = add("red", name)
    assert (first, version) == (name, 1)
    assert add("red", name) == (name, 1, digest)
    assert add("red", f"{name}-too") == (f"{name}-too", 1, digest)
    second, version, other = add("blue", name)
    assert (second, version) == (name, 2)
    assert other != digest


def test_a_dataset_is_added_listed_and_trained_on_by_its_id(suite: Suite, tmp_path: Path) -> None:
    name = f"echo-{uuid.uuid4().hex[:8]}"
    rows = [{"prompt": f"Say {word}.", "completion": f"<{word}>"} for word in ("red", "blue", "green", "grey")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    added = trivium(suite, "data", "add", str(tmp_path / "rows.jsonl"), "--name", name, "--json")
    assert added.code == 0, added.err
    assert added.json["rows"] == 4
    listed = trivium(suite, "data", "list", "--json")
    assert name in {dataset["dataset"] for dataset in listed.json}

    # So many that it is cancelled before its end.
    settings = ("--epochs", "1000", "--rank", "8")
    started = trivium(suite, "train", "start", name, "-m", name, *settings, "--no-watch", "--json")
    assert started.code == 0, started.err
    assert (started.json["model"], started.json["dataset"]) == (name, name)
    assert trivium(suite, "train", "cancel", started.json["job"]).code == 0


def readme_training() -> tuple[list[str], str]:
    """What stands behind `trivium` in the line that a newcomer trains with, and the line that its output ends with."""
    section = (CHECKOUT / "README.md").read_text().partition("## Training\n")[2]
    command, output = re.findall(r"```(?:sh|text)\n(.*?)\n```", section, re.DOTALL)[:2]
    return shlex.split(command)[1:], output.splitlines()[-1]


@pytest.mark.sampled(every=2, family="whole trainings")
def test_the_line_of_the_readme_shows_a_terminal_what_happens_from_the_file_to_the_line_to_chat(suite: Suite) -> None:
    words, last = readme_training()
    code, seen = on_a_terminal(suite, *words, "--set", "max_steps=3")
    assert code == 0, seen
    lines = seen.splitlines()
    stages = (
        "uploading pairs.jsonl",
        "pairs.jsonl is the dataset pairs: 200 rows of chat",
        "3 steps over ",
        "Memory: ",
        "interrupting this does not end it",
        "step 3 of 3",
        "registered as sha256:",
        "pairs has version sha256:",
        "loading sha256:",
        "pairs is served. Talk to it:",
    )
    places = [next((at for at, line in enumerate(lines) if stage in line), -1) for stage in stages]
    assert -1 not in places, (places, seen)
    assert places == sorted(places), (places, seen)
    # The curve, between its axes, while the job trains.
    drawn = "\n".join(lines[places[4] : places[7]])
    assert re.search(r"[⠁-⣿]", drawn)
    # Two steps may end between two frames on a loaded machine.
    assert re.search(r"step [12] of 3", drawn)
    assert "gradient norm" in drawn
    assert lines[-1] == last
    assert "Traceback" not in seen


@pytest.fixture(scope="module")
def trained(suite: Suite) -> Ran:
    """The line of the README in a pipe, for two steps."""
    words, _ = readme_training()
    ran = trivium_process(suite, *words, "--set", "max_steps=2")
    assert ran.code == 0, ran.err
    return ran


def version_of(trained: Ran) -> str:
    """The version that the command said it made."""
    (version,) = [
        line.split()[3].rstrip(";") for line in trained.out.splitlines() if line.startswith("pairs has version ")
    ]
    return version


def test_the_line_of_the_readme_ends_in_a_pipe_with_a_version_that_answers(suite: Suite, trained: Ran) -> None:
    _, last = readme_training()
    lines, version = trained.out.splitlines(), version_of(trained)
    assert lines[0].startswith("pairs.jsonl is the dataset pairs: 200 rows of chat, ")
    assert lines[-2:] == ["pairs is served. Talk to it:", last]
    told = trained.err.splitlines()
    begun, registered, loading = (
        next(at for at, line in enumerate(told) if line.startswith(words))
        for words in ("job ", f"registered as {version}", f"loading {version[:19]}")
    )
    assert begun < registered < loading
    assert not re.search(r"[⠀-⣿\x1b]", trained.out + trained.err)
    chatted = trivium(suite, *shlex.split(last)[1:], "--max-tokens", "8", "--json")
    assert chatted.code == 0, chatted.err
    assert chatted.json["final"]["receipt"]["version"] == version


def test_a_job_is_told_again_and_another_alias_serves_what_came_of_it(suite: Suite, trained: Ran) -> None:
    version = version_of(trained)
    jobs = trivium(suite, "train", "list", "--json").json
    job = next(job["job"] for job in jobs if job["version"] == version)
    watched = trivium(suite, "train", "watch", job, "--json")
    assert watched.code == 0, watched.err
    events = [json.loads(line) for line in watched.out.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["state"] == "succeeded"

    moved = trivium(suite, "models", "alias", "pairs@canary", version, "--json")
    assert moved.code == 0, moved.err
    assert moved.json["serving_version"] == version
    shown = trivium(suite, "models", "show", "pairs@canary", "--json")
    assert shown.json["version"] == version
    served = trivium(suite, "models", "list", "--json")
    assert {model["name"] for model in served.json} >= {"base", "pairs"}

    chatted = trivium(suite, "chat", "Say red.", "-m", "pairs@canary", "--max-tokens", "4", "--json")
    assert chatted.code == 0, chatted.err
    receipt = chatted.json["final"]["receipt"]
    assert receipt["version"] == version
    assert receipt["engine_slot"] >= 0


def test_what_the_generator_holds_is_listed_with_its_tier_and_protected(suite: Suite, adapter: Served) -> None:
    version = adapter.version

    def listed() -> Any:
        shown = trivium(suite, "models", "resident", "--json")
        assert shown.code == 0, shown.err
        return shown.json

    shown = trivium(suite, "models", "protect", adapter.model, "--json")
    assert shown.code == 0, shown.err
    assert (shown.json["version"], shown.json["tier"], shown.json["pinned"]) == (version, "slot", True)
    held = {found["version"]: found for found in listed()["adapters"]}
    assert (held[version]["tier"], held[version]["priority"]) == ("slot", "protected")
    tiers = {tier["tier"]: tier for tier in listed()["tiers"]}
    assert list(tiers) == ["slot", "memory", "file"]
    assert tiers["slot"]["versions"] == sum(found["tier"] == "slot" for found in held.values())
    assert 0 < tiers["file"]["size_bytes"] <= tiers["file"]["limit_bytes"]
    table = trivium(suite, "models", "resident").out
    assert version[:12] in table
    assert "protected" in table
    assert "evictions" in table
    ended = trivium(suite, "models", "protect", f"{adapter.model}@{version}", "--end", "--json")
    assert (ended.json["pinned"], ended.json["priority"]) == (False, "serving")
    assert trivium(suite, "models", "protect", "nothing").code == 3


def test_engines_are_listed_with_what_they_run_and_take(suite: Suite, adapter: Served) -> None:
    engines = trivium(suite, "models", "engines", "--json")
    assert engines.code == 0, engines.err
    default = engines.json[0]
    assert (default["state"], default["version"], default["last_error"]) == ("ready", "", "")
    assert default["memory_bytes"] > 100 << 20
    table = trivium(suite, "models", "engines").out
    assert default["engine"] in table
    assert "ready" in table


def test_a_version_leaves_comes_back_is_rolled_back_to_and_removed(
    suite: Suite, adapter: Served, tmp_path: Path
) -> None:
    name, folder = f"copy-{uuid.uuid4().hex[:8]}", tmp_path / "exported"

    def models(*arguments: str) -> Any:
        ran = trivium(suite, "models", *arguments, "--json")
        assert ran.code == 0, ran.err
        return ran.json

    exported = models("export", adapter.model, str(folder))
    assert exported["version"] == adapter.version
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert digests == {file["filename"]: file["sha256"] for file in exported["files"]}
    assert models("export", f"{adapter.model}@{adapter.version[:19]}", str(folder)) == exported

    first = models("import", name, str(folder))["version"]
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))
    second = models("import", name, str(folder))["version"]
    spoilt = trivium(suite, "models", "export", adapter.model, str(folder))
    assert (spoilt.code, str(folder) in spoilt.err) == (4, True)
    assert [item["version"] for item in models("lineage", f"{name}@2")["chain"]] == [second]

    assert models("alias", name, "1")["serving_version"] == first
    assert trivium(suite, "models", "rollback", name).code == 4
    assert models("alias", name, "2")["serving_version"] == second
    assert models("rollback", name)["serving_version"] == first
    assert models("rollback", name)["serving_version"] == second
    assert [move["to_version"] for move in models("moves", name)] == [second, first, second, first]

    assert trivium(suite, "models", "rm", f"{name}@2").code == 4
    assert trivium(suite, "models", "rm", name).code == 2
    assert models("rm", f"{name}@prod", "--alias") == {"deleted": f"{name}@prod"}
    # What serves, and what served before it, is kept loaded: the generator may not have let it go yet.
    assert models("rm", f"{name}@2", "--force") == {"deleted": f"{name}@2"}
    assert models("restore", f"{name}@2")["version"] == second
    assert models("rm", name, "--all", "--force") == {"deleted": name}
    assert trivium(suite, "models", "show", name).code == 3


def test_a_finished_job_cannot_be_cancelled(suite: Suite, trained: Ran) -> None:
    version = version_of(trained)
    finished = next(job["job"] for job in trivium(suite, "train", "list", "--json").json if job["version"] == version)
    cancelled = trivium(suite, "train", "cancel", finished)
    assert cancelled.code == 4
    assert finished in cancelled.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("chat", "hello", "-m", "no-such-model"), 3, "no-such-model"),
        (("docs", "list", "-c", "no-such-collection"), 3, "no-such-collection"),
        (("train", "watch", "no-such-job"), 3, "no-such-job"),
        (("train", "start", "no-such-dataset", "-m", "x1"), 3, "no-such-dataset"),
        (("ask", "  "), 4, "question"),
        (("chat", ""), 4, "empty"),
        (("docs", "rm"), 2, "--all"),
        (("train", "start", "x", "-m", "x1", "--method", "magic"), 2, "magic"),
        (("nonsense",), 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_an_exit_code_says_what_kind_of_failure_it_was(
    suite: Suite, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ran = trivium(suite, *arguments)
    assert ran.code == code, ran.err
    assert says in ran.err.lower()


def test_a_wrong_key_is_refused_with_its_own_exit_code(suite: Suite) -> None:
    assert trivium_process(suite, "models", "list", key="tv_wrong_" + "x" * 43).code == 5


def test_every_command_shows_an_example_and_the_exit_codes(suite: Suite) -> None:
    for command in (
        "ask",
        "chat",
        "docs add",
        "docs list",
        "docs rm",
        "docs search",
        "data add",
        "data list",
        "train start",
    ):
        shown = trivium(suite, *command.split(), "--help")
        assert shown.code == 0
        assert "Example: trivium" in shown.out
        assert "Exit codes" in shown.out
