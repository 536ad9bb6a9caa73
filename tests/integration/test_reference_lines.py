"""The lines that the API reference shows are run against a running suite, as a reader would."""

import os
import re
import subprocess

import pytest

from services.chassis.config import PORTS
from services.ops import gotools
from services.ops.supervisor import Suite
from tests.contract.contracts import PROTOS

_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_SERVICE_OF_PORT = {str(port): service for service, port in PORTS.items()}


def grpcurl_lines() -> list[str]:
    """Every grpcurl call of the reference, on one line each."""
    lines = []
    for block in _BLOCK.findall((PROTOS / "README.md").read_text()):
        lines += [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("grpcurl ")]
    return lines


def test_the_reference_shows_a_line_for_every_service() -> None:
    methods = " ".join(grpcurl_lines())
    for service in ("Access", "Registry", "Embedder", "Retriever", "Dataset", "Training", "Generator", "Gateway"):
        assert f"{service}Service/" in methods


@pytest.mark.parametrize("line", grpcurl_lines(), ids=lambda line: line.rsplit(".", 1)[-1])
def test_a_line_of_the_reference_works_as_it_stands(suite: Suite, line: str) -> None:
    def address(match: re.Match[str]) -> str:
        return suite.addresses[_SERVICE_OF_PORT[match[1]]]

    ran = subprocess.run(
        ["bash", "-c", re.sub(r"127\.0\.0\.1:(\d+)", address, line)],
        cwd=PROTOS.parent,
        env={
            **os.environ,
            "TRIVIUM_API_KEY": suite.api_key,
            "TRIVIUM_SERVICE_KEY": suite.service_key,
            "PATH": f"{gotools.program('grpcurl').parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().startswith("{")
