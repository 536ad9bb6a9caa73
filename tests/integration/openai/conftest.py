"""Stock of the tests with OpenAI's own client, made once a session in the shared suite."""

import os
import subprocess

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from services.ops.cache import CHECKOUT
from services.ops.supervisor import Suite
from tests.integration.gateway.stock import Served, ingest, serve_adapter
from tests.integration.openai.readme import END, FINE_TUNED, blocks

# A limit for lines that hang; a training beside another lane of tests takes minutes.
_CURL_SECONDS = 480


@pytest.fixture(scope="session")
def collection(suite: Suite) -> str:
    """A collection of the ferry's documents."""
    ingest(suite, "openai-ferry")
    return "openai-ferry"


@pytest.fixture(scope="session")
def adapter(suite: Suite) -> Served:
    """A served adapter."""
    return serve_adapter(suite, "openai-voice", seed=7)


@pytest.fixture(scope="session")
def answers(suite: Suite) -> list[str]:
    """The output of each block of the README when one shell runs them all; the last one fine-tunes a model."""
    program = f"\nprintf '\\n%s\\n' '{END}'\n".join(["set -e", *(commands for commands, _ in blocks()), ""])
    ran = subprocess.run(
        ["bash", "-c", program],
        cwd=CHECKOUT,
        env={**os.environ, "URL": f"{suite.http}/v1", "KEY": suite.api_key},
        capture_output=True,
        text=True,
        timeout=_CURL_SECONDS,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    return ran.stdout.split(END)[1:]


@pytest.fixture(scope="session")
def fine_tuned(suite: Suite, answers: list[str]) -> FineTuningJob:
    """The job that the README's lines began, as the Python client finds it: the one training that these tests share."""
    assert answers
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key) as client:
        return next(
            job for job in client.fine_tuning.jobs.list() if (job.fine_tuned_model or "").startswith(FINE_TUNED)
        )
