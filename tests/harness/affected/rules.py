"""Dependencies that no import shows: tests that start a service as a process, and files that are not modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

# Tests that start every service, or read what all of them declare.
_OF_ALL = ("tests/contract/test_*.py", "tests/security/*", "tests/robustness/test_backup.py")

# The tests that attack a service as a process, by its package.  Those that only stand on it are not listed: the registry's
# own tests find its faults, and all tests of other services that use a registry would not find more.
PROCESSES: Mapping[str, tuple[str, ...]] = {
    "services.access": (
        "tests/contract/access/*",
        "tests/contract/chassis/test_access.py",
        "tests/conformance/test_access_*",
        "tests/robustness/test_audit_survives.py",
        "tests/robustness/gateway/test_usage_survives.py",
        *_OF_ALL,
    ),
    "services.registry": (
        "tests/contract/registry/*",
        "tests/contract/generator/*",
        "tests/conformance/test_registry_*",
        "tests/conformance/test_blobs.py",
        "tests/robustness/registry/*",
        "tests/robustness/test_registry_*",
        *_OF_ALL,
    ),
    "services.trainer": (
        "tests/contract/trainer/*",
        "tests/conformance/test_trainer_*",
        "tests/robustness/trainer/*",
        *_OF_ALL,
    ),
    "services.embedder": (
        "tests/contract/embedder/*",
        "tests/contract/registry/test_encoder*",
        "tests/contract/retriever/test_own_encoders.py",
        "tests/contract/retriever/test_models.py",
        "tests/contract/gateway/test_embeddings.py",
        "tests/robustness/test_own_encoders.py",
        "tests/integration/test_own_encoders.py",
        *_OF_ALL,
    ),
    "services.retriever": (
        "tests/contract/retriever/*",
        "tests/contract/gateway/test_*search*.py",
        "tests/contract/gateway/test_*store*.py",
        "tests/conformance/test_index.py",
        "tests/robustness/retriever/*",
        "tests/robustness/test_index_away.py",
        "tests/robustness/test_own_encoders.py",
        "tests/robustness/test_retriever_*",
        "tests/robustness/test_summary_*",
        "tests/integration/test_looking_further.py",
        "tests/integration/test_manual.py",
        "tests/integration/test_summaries.py",
        *_OF_ALL,
    ),
    "services.files": (
        "tests/contract/files/*",
        "tests/contract/gateway/test_*response*.py",
        "tests/contract/gateway/test_*store*.py",
        "tests/robustness/files/*",
        "tests/integration/openai/*",
        *_OF_ALL,
    ),
    "services.generator": (
        "tests/contract/generator/*",
        "tests/integration/*",
        *_OF_ALL,
    ),
    "gateway": (
        "tests/contract/gateway/*",
        "tests/contract/files/*",
        "tests/robustness/gateway/*",
        "tests/integration/*",
        *_OF_ALL,
    ),
    "trivium_client.cli": (
        "tests/contract/test_models_command_line.py",
        "tests/contract/*/test_*command*.py",
        "tests/contract/*/test_*client*.py",
        "tests/integration/test_cli.py",
        "tests/integration/test_sdk.py",
    ),
}

_SERVICE_FOLDER = re.compile(r"(?:services/(\w+)|(gateway))/")
_PROTO = re.compile(r"(?:protos|clients/python)/trivium/(\w+)/")
_MIGRATION = re.compile(r"services/(\w+)/migrations/")
# Contracts of no service: all speak them.
_COMMON_PROTOS = {"common", "policy"}
_EVERY_SERVICE = (
    "protos/service_config.json",
    "clients/python/trivium/service_config.json",
    "clients/python/buf/*",
    "tests/contract/permitted.py",
)
# Prose; what decides how tests are run or chosen but not what they find; what is made from a file that counts itself.
_NOTHING = (
    "*.md",
    "*/README.md",
    "docs/*",
    "LICENSE*",
    ".git*",
    ".ci/*",
    "Makefile",
    "tests/budget.toml",
    "tests/sampled_files.toml",
    "tests/soak.json",
    "tests/recorded_seconds.json",
    "clients/python/trivium/descriptors.binpb",
    "protos/buf*.yaml",
    "*/py.typed",
)
_EVERYTHING = ("pyproject.toml", "requirements.lock", "clients/python/pyproject.toml")


@dataclass(frozen=True, slots=True)
class Reach:
    """The tests that a changed file affects without an import."""

    services: frozenset[str] = frozenset()
    folders: frozenset[str] = field(default=frozenset())  # whose tests it reaches
    beside: bool = False  # reaches the modules of the package in which it lies
    everything: bool = False


def reach_of(path: str) -> Reach:
    """Return what a changed file reaches beside the modules that import it."""
    if _matches(path, _EVERYTHING):
        return Reach(everything=True)
    if _matches(path, _EVERY_SERVICE):
        return Reach(services=frozenset(PROCESSES))
    if proto := _PROTO.match(path):
        return Reach(services=_services_of_proto(proto[1]))
    if migration := _MIGRATION.match(path):
        return Reach(services=frozenset({f"services.{migration[1]}"}))
    if path.endswith("/conftest.py"):
        return Reach(folders=frozenset({path.rpartition("/")[0]}))
    if path.endswith(".py"):
        return Reach()
    inside = path.startswith(("services/", "gateway/", "clients/python/trivium_client/", "tests/"))
    if inside and not _matches(path, tuple(rule for rule in _NOTHING if rule != "*.md")):
        return Reach(beside=True)  # data of the modules beside it, handbooks of the demonstration among them
    return Reach() if _matches(path, _NOTHING) else Reach(everything=True)


def own_service(path: str) -> str | None:
    """Return the service in whose folder a file lies."""
    found = _SERVICE_FOLDER.match(path)
    name = None if found is None else f"services.{found[1]}" if found[1] else found[2]
    return name if name in PROCESSES else None


def starts(file: str, service: str) -> bool:
    """Return whether a test file attacks a service as a process."""
    return _matches(file, PROCESSES[service])


def _services_of_proto(name: str) -> frozenset[str]:
    service = name if name in PROCESSES else f"services.{name}"
    return frozenset(PROCESSES if name in _COMMON_PROTOS or service not in PROCESSES else {service, "gateway"})


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
