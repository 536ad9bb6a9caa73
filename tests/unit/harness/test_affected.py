"""A change selects the tests that it can break, the likeliest first, and a move selects none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.harness import yardstick
from tests.harness.affected import costs, rules, soak_record, whole_files
from tests.harness.affected.changes import changed_paths
from tests.harness.affected.costs import Record
from tests.harness.affected.imports import Imports, read_imports
from tests.harness.affected.packages import Packages, packages_of
from tests.harness.affected.selection import Affected, Reason, affected_since_soak, affected_tests, fit
from tests.harness.repository import Repository, UnknownRevision

ROOT = Path(__file__).resolve().parents[3]
# The most that a selection may cost; each run of CI makes one before its first test.
_SELECTION_LANE_SECONDS = 5

FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": '"""Prices."""\n\n\ndef price(item: str) -> int:\n    """Return a price."""\n    return len(item)\n',
    "shop/desk.py": "from shop import prices\n\n\ndef sell(item):\n    return prices.price(item)\n",
    "shop/worker.py": "import shop.prices\n\nprint(shop.prices.price('x'))\n",
    "shop/table.txt": "one\n",
    "shop/stock/__init__.py": "",
    "shop/stock/shelf.py": "from ..prices import price as cost\n\n\ndef shelf():\n    return cost('shelf')\n",
    "checks/__init__.py": "",
    "checks/conftest.py": "from checks.helpers import counter\n__all__ = ['counter']\n",
    "checks/helpers.py": "import pytest\nfrom shop.stock import shelf\n@pytest.fixture\ndef counter(): return shelf\n",
    "checks/test_desk.py": "from shop.desk import sell\ndef test_it(monkeypatch): assert sell('x')\n",
    "checks/test_worker.py": "COMMAND = ['-m', 'shop.worker']\ndef test_it(): pass\n",
    "checks/test_counter.py": "def test_it(counter): pass\n",
    "checks/test_alone.py": "def test_it(): pass\n",
    "README.md": "shop\n",
}


@dataclass
class Tree:
    """A repository of two packages, with a first commit."""

    root: Path

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text
        self.write(path, text.replace(old, new))

    def move(self, old: str, new: str) -> None:
        (self.root / new).parent.mkdir(parents=True, exist_ok=True)
        (self.root / old).rename(self.root / new)

    def git(self, *arguments: str) -> None:
        command = ["git", "-C", str(self.root), "-c", "user.name=test", "-c", "user.email=test@test", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=it")

    @property
    def packages(self) -> Packages:
        return Packages(self.root, {"shop": "shop", "checks": "checks"}, "checks")

    def changed(self, base: str = "HEAD") -> set[str]:
        return changed_paths(Repository(self.root), self.packages, base)

    def affected(self) -> dict[str, Reason]:
        found = affected_tests(self.changed(), self.packages, read_imports(self.packages))
        return {Path(each.file).stem.removeprefix("test_"): each.reason for each in found}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "tree")
    for path, text in FILES.items():
        made.write(path, text)
    made.git("init", "--quiet")
    made.commit()
    return made


def test_a_module_selects_the_tests_that_need_it_by_import_by_name_and_by_fixture(tree: Tree) -> None:
    assert tree.affected() == {}
    tree.replace("shop/prices.py", "len(item)", "len(item) + 1")
    assert tree.affected() == {"desk": Reason.IMPORTS, "worker": Reason.IMPORTS, "counter": Reason.IMPORTS}
    tree.commit()
    tree.replace("shop/stock/shelf.py", "'shelf'", "'board'")
    assert tree.affected() == {"counter": Reason.IMPORTS}
    tree.commit()
    tree.replace("shop/worker.py", "'x'", "'y'")
    assert tree.affected() == {"worker": Reason.IMPORTS}


def test_what_only_the_helpers_of_helpers_need_comes_last(tree: Tree) -> None:
    tree.write("checks/more.py", "from checks import helpers\n")
    tree.write("checks/test_far.py", "from checks import more\ndef test_it(): assert more\n")
    tree.commit()
    tree.replace("shop/prices.py", "len(item)", "len(item) + 1")
    assert tree.affected()["far"] == Reason.IMPORTS_INDIRECTLY


def test_tests_select_themselves_a_conftest_what_is_below_it_and_data_the_modules_beside_it(tree: Tree) -> None:
    tree.write("checks/test_new.py", "def test_it(): pass\n")
    tree.replace("checks/test_alone.py", "pass", "assert True")
    assert tree.affected() == {"new": Reason.ITSELF, "alone": Reason.ITSELF}
    tree.commit()
    tree.write("checks/deep/test_deep.py", "def test_it(): pass\n")
    tree.commit()
    tree.write("checks/deep/conftest.py", "import pytest\n")
    assert tree.affected() == {"deep": Reason.IMPORTS}
    tree.commit()
    tree.write("README.md", "the shop\n")
    tree.write("docs/figures/speed.json", "{}\n")
    assert tree.affected() == {}


def _move_prices(tree: Tree) -> None:
    tree.move("shop/prices.py", "shop/counting/costs.py")
    tree.write("shop/counting/__init__.py", "")
    tree.write("shop/desk.py", "from shop.counting import costs\n\n\ndef sell(item):\n    return costs.price(item)\n")
    tree.write("shop/worker.py", "import shop.counting.costs\n\nprint(shop.counting.costs.price('x'))\n")
    tree.replace("shop/stock/shelf.py", "from ..prices", "from ..counting.costs")


def _move_stock(tree: Tree) -> None:
    tree.move("shop/stock/__init__.py", "shop/store/__init__.py")
    tree.move("shop/stock/shelf.py", "shop/store/board.py")
    tree.write(
        "checks/helpers.py",
        "import pytest\nfrom shop.store import board\n@pytest.fixture\ndef counter(): return board\n",
    )


MOVES: dict[str, Callable[[Tree], None]] = {
    "a file alone": lambda tree: tree.move("checks/test_alone.py", "checks/far/test_alone.py"),
    "a file that is no module": lambda tree: tree.move("shop/table.txt", "shop/stock/table.txt"),
    "a module, with those who import it": _move_prices,
    "a package": _move_stock,
}


@pytest.mark.parametrize("staged", [True, False])
@pytest.mark.parametrize("move", MOVES)
def test_a_move_selects_nothing(tree: Tree, move: str, staged: bool) -> None:
    MOVES[move](tree)
    if staged:
        tree.git("add", "--all")
    assert tree.changed() == set()
    assert tree.affected() == {}


def test_a_move_that_changes_something_selects_as_any_change(tree: Tree) -> None:
    _move_prices(tree)
    tree.replace("shop/counting/costs.py", "len(item)", "len(item) + 1")
    assert tree.changed() == {"shop/counting/costs.py"}
    assert tree.affected().keys() == {"desk", "worker", "counter"}


def test_another_name_from_the_same_module_is_a_change_and_no_move(tree: Tree) -> None:
    _move_prices(tree)
    tree.write("shop/desk.py", "from shop.counting import costs\n\n\ndef sell(item):\n    return costs.cost(item)\n")
    tree.replace("shop/stock/shelf.py", "price as cost", "prices as cost")
    assert tree.changed() == {"shop/desk.py", "shop/stock/shelf.py"}


def test_comments_layout_and_docstrings_are_no_change_unless_code_reads_them(tree: Tree) -> None:
    tree.replace("shop/prices.py", "Return a price.", "Return what an item costs.")
    tree.replace(
        "shop/desk.py", "return prices.price(item)", "# as it is today\n    return prices.price(\n        item\n    )"
    )
    assert tree.changed() == set()
    tree.replace("shop/prices.py", "len(item)", "len(item or price.__doc__)")
    assert tree.changed() == {"shop/prices.py"}


def test_a_base_that_is_not_there_is_told(tree: Tree) -> None:
    with pytest.raises(UnknownRevision, match="0000"):
        tree.changed("0000")


def test_the_index_of_the_checkout_stays_as_it_is(tree: Tree) -> None:
    tree.write("shop/new.py", "")
    index = (tree.root / ".git" / "index").read_bytes()
    tree.changed()
    assert Repository(tree.root).patch()
    assert (tree.root / ".git" / "index").read_bytes() == index


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(packages_of(ROOT))


# A changed file; a test file that has to run whole, and why; one that has not to.
OURS = {
    "services/registry/store.py": ("tests/contract/registry/test_aliases.py", Reason.STARTS_SERVICE, "unit/generator"),
    "services/chassis/blobs.py": ("tests/robustness/registry/test_every_step.py", Reason.SHARES_CODE, "unit/gateway"),
    "services/registry/migrations/r0007_rollbacks.py": (
        "tests/conformance/test_registry_migrations.py",
        Reason.STARTS_SERVICE,
        "unit/trainer",
    ),
    "services/trainer/bank/adapters.cpp": (
        "tests/contract/trainer/test_jobs.py",
        Reason.STARTS_SERVICE,
        "unit/gateway",
    ),
    "gateway/limits/gate.py": ("tests/robustness/gateway/test_limits_hold.py", Reason.STARTS_SERVICE, "unit/registry"),
    "protos/trivium/files/v1/file.proto": ("tests/contract/files/test_files.py", Reason.STARTS_SERVICE, "unit/trainer"),
    "services/generator/engine_vllm.py": (
        "tests/integration/generator/test_answers.py",
        Reason.STARTS_SERVICE,
        "unit/trainer",
    ),
    "tests/contract/registry/conftest.py": ("tests/contract/registry/test_gates.py", Reason.IMPORTS, "unit/"),
    "requirements.lock": ("tests/unit/chassis/test_waiting.py", Reason.EVERYTHING, "load/"),
}


@pytest.mark.parametrize("path", OURS)
def test_a_change_of_ours_reaches_the_tests_of_its_service_and_not_those_of_others(path: str, imports: Imports) -> None:
    assert (ROOT / path).is_file()
    file, reason, not_below = OURS[path]
    found = {each.file: each for each in affected_tests([path], packages_of(ROOT), imports)}
    assert found[file].reason == min(reason, found[file].reason)
    assert [other for other in found if other.startswith(f"tests/{not_below}")] == []


NOTHING = (
    *("README.md", "protos/README.md", "tests/README.md", "docs/figures/rpc.json", "Makefile", ".ci/run"),
    *("tests/budget.toml", "tests/sampled_files.toml", "tests/soak.json"),
)


def test_prose_and_what_decides_how_tests_run_select_nothing(imports: Imports) -> None:
    assert affected_tests(NOTHING, packages_of(ROOT), imports) == []


def test_each_pattern_names_tests_and_each_test_of_processes_is_named() -> None:
    tests = packages_of(ROOT).test_files()
    patterns = {pattern for patterns in rules.PROCESSES.values() for pattern in patterns}
    named = {file for service in rules.PROCESSES for file in tests if rules.starts(file, service)}
    assert [pattern for pattern in patterns if not any(fnmatchcase(file, pattern) for file in tests)] == []
    folders = ("contract", "conformance", "robustness", "security", "integration")
    # The chassis' tests start their servers in process.
    needed = {file for file in tests if file.split("/")[1] in folders and "contract/chassis/" not in file}
    assert needed - named == set()


def affected(reason: Reason, distance: int, file: str) -> Affected:
    return Affected(reason, distance, file)


def test_the_cap_drops_what_a_change_breaks_least_likely_and_fills_up_with_what_is_short() -> None:
    itself, near, far, long, short = (
        affected(Reason.ITSELF, 0, "itself"),
        affected(Reason.IMPORTS, 1, "near"),
        affected(Reason.IMPORTS, 2, "far"),
        affected(Reason.STARTS_SERVICE, 0, "long"),
        affected(Reason.EVERYTHING, 0, "short"),
    )
    seconds = {"itself": 10.0, "near": 10.0, "far": 10.0, "long": 100.0, "short": 1.0}
    chosen = fit([short, long, far, near, itself], seconds, 35.0)
    assert chosen.selected == (itself, near, far, short)
    assert chosen.dropped == (long,)
    assert chosen.lane_seconds == 31.0
    assert fit([itself], seconds, -5.0).dropped == (itself,)


def test_a_file_that_was_not_measured_costs_what_its_text_tells(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("@pytest.mark.sampled(every=4)\ndef test_a(): pass\nasync def test_b(): pass\n")
    record = Record({"known": {"sampled": 3.0, "whole": 9.0}, "half": {"sampled": 3.0}})
    assert record.cost(file, "known").extra == 6.0
    assert record.cost(file, "half").whole == 12.0
    assert (record.cost(file, "new").sampled, record.cost(file, "new").whole) == (1.0, 4.0)


def test_measured_seconds_are_taken_over_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardstick, "seconds", lambda: yardstick.REFERENCE_SECONDS / 2)
    for name in ("a", "b"):
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / f"test_{name}.py").touch()
    timing = tmp_path / "timing.json"
    timing.write_text(
        json.dumps({"files": {"tests/test_a.py": {"processor": 2}, "tests/test_gone.py": {"processor": 1}}})
    )
    assert costs.main([str(timing)], tmp_path) == 0
    timing.write_text(json.dumps({"files": {"tests/test_a.py": {"processor": 5}, "tests/test_b.py": {"processor": 1}}}))
    assert costs.main([str(timing), "--whole"], tmp_path) == 0
    assert costs.read_record(tmp_path).files == {
        "tests/test_a.py": {"sampled": 4.0, "whole": 10.0},
        "tests/test_b.py": {"whole": 2.0},
    }


def test_what_changed_counts_since_the_last_soak_of_each_file_also_where_that_has_moved(tree: Tree) -> None:
    repository = Repository(tree.root)
    tree.write("checks/test_never_soaked.py", "from shop import prices\ndef test_it(): assert prices\n")
    tree.commit()
    first = repository.commit()
    tree.replace("shop/prices.py", "len(item)", "len(item) + 1")
    tree.commit()
    second = repository.commit()
    record = soak_record.SoakRecord().passed(["checks/test_desk.py", "checks/test_alone.py"], first, {"lanes": [2]})
    record = record.passed(["checks/test_worker.py", "checks/test_gone.py"], second, {"lanes": [2]})
    record = record.passed(["checks/test_counter.py"], "0" * 40, {})
    tree.write("tests/soak.json", record.text(tree.root))
    _move_prices(tree)
    tree.move("checks/test_alone.py", "checks/far/test_alone.py")
    tree.move("checks/test_desk.py", "checks/test_sale.py")
    read = soak_record.read(repository)
    assert read.files == {
        "checks/test_sale.py": first,
        "checks/far/test_alone.py": first,
        "checks/test_worker.py": second,
        "checks/test_counter.py": "0" * 40,
    }
    found = {each.file: each.reason for each in affected_since_soak(read, tree.packages, read_imports(tree.packages))}
    assert found == {"checks/test_sale.py": Reason.IMPORTS, "checks/test_counter.py": Reason.EVERYTHING}


def test_what_is_left_out_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(costs, "room", lambda root: 0.0)
    assert whole_files("0000") == set()  # a base that a shallow clone has not: everything counts as changed
    assert "left to the next soak, for the cap: tests/unit/" in capsys.readouterr().out


def test_a_selection_takes_seconds_and_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, time; from tests.harness.affected import whole_files; whole_files('HEAD')\n"
        "print(time.process_time(), *(name for name in ('torch', 'vllm', 'transformers', 'grpc') if name in sys.modules))"
    )
    environment = {**os.environ, "TRIVIUM_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    seconds, *heavy = ran.stdout.splitlines()[-1].split()
    assert heavy == []
    assert float(seconds) * yardstick.REFERENCE_SECONDS / yardstick.seconds() < _SELECTION_LANE_SECONDS
