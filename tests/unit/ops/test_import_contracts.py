"""The import contracts hold what they say: each is broken on purpose, and none leaves a package out."""

import itertools
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from services.ops import lint
from services.ops.cache import CHECKOUT

SETTINGS: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS: list[dict[str, Any]] = SETTINGS["contracts"]
COMMAND = lint.CHECKS["imports (import-linter)"]
# Where the root packages lie.
ROOTS = {"services": "services", "gateway": "gateway", "trivium_client": "clients/python/trivium_client"}


def folder_of(package: str, checkout: Path = CHECKOUT) -> Path:
    root, *rest = package.split(".")
    return checkout.joinpath(ROOTS[root], *rest)


def forbidden(contract: dict[str, Any]) -> list[tuple[str, str]]:
    """What may not import what."""
    if contract["type"] == "independence":
        return list(itertools.permutations(contract["modules"], 2))
    assert contract["type"] == "forbidden"
    return list(itertools.product(contract["source_modules"], contract["forbidden_modules"]))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code in another checkout, to be broken."""
    for folder in ROOTS.values():
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_copy_as_it_stands_breaks_nothing(copy: Path) -> None:
    finished = lint.ran(COMMAND, copy)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_every_import_that_a_contract_forbids_is_found_where_it_is_planted(
    copy: Path, contract: dict[str, Any]
) -> None:
    pairs = forbidden(contract)
    for source, group in itertools.groupby(pairs, lambda pair: pair[0]):
        lines = [f"import {target}" for _, target in group]
        (folder_of(source, copy) / "planted.py").write_text("\n".join(lines) + "\n")
    finished = lint.ran(COMMAND, copy)
    assert finished.returncode == 1, finished.stdout
    assert f"{contract['name']} BROKEN" in finished.stdout
    told = finished.stdout.split(f"\n{contract['name']}\n", 1)[1]
    missing = [pair for pair in pairs if f"{pair[0]} is not allowed to import {pair[1]}:" not in told]
    assert missing == []


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_a_contract_names_packages_that_exist(contract: dict[str, Any]) -> None:
    named = {package for pair in forbidden(contract) for package in pair}
    assert [package for package in sorted(named) if not (folder_of(package) / "__init__.py").is_file()] == []


def test_every_service_is_held_apart_from_the_others() -> None:
    services = {f"services.{found.parent.name}" for found in (CHECKOUT / "services").glob("*/__init__.py")}
    services = {"gateway", *services} - {"services.chassis", "services.ops"}
    held = [
        set(contract.get("modules") or contract["source_modules"])
        for contract in CONTRACTS
        if contract["name"].startswith("services ")
    ]
    assert held == [services, services]


def test_every_room_of_the_gateway_but_the_skin_itself_is_held_apart_from_it() -> None:
    rooms = {f"gateway.{found.parent.name}" for found in (CHECKOUT / "gateway").glob("*/__init__.py")}
    (held,) = [set(it["source_modules"]) for it in CONTRACTS if it.get("forbidden_modules") == ["gateway.http"]]
    assert held == rooms - {"gateway.http"}


def test_no_folder_of_code_is_out_of_the_linters_sight() -> None:
    """A folder without __init__.py is not followed, whatever it imports."""
    assert set(SETTINGS["root_packages"]) == set(ROOTS)
    folders = {path.parent for root in ROOTS.values() for path in (CHECKOUT / root).rglob("*.py")}
    unseen = [folder for folder in folders if not (folder / "__init__.py").is_file()]
    assert [str(folder.relative_to(CHECKOUT)) for folder in unseen] == []
