"""vLLM's own server with the settings and the plug-in of the suite's engine: the floor that the door is held to.

It is what ``vllm serve`` runs, by the module's name: the command asks for a distribution called ``vllm``, and that for
processors has another name.
"""

import contextlib
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.config import GeneratorSettings
from services.generator.hosting import vllm_settings
from services.generator.hosts import Base
from services.generator.targets import chosen, module_shapes, names
from services.generator.vllm_settings import VllmSettings, environment
from tests import tied
from tests.harness.ports import reserved_address
from tests.stack import eventually

# One that has ended is noticed at once; a busy machine takes its time.
_START_SECONDS = 900.0
BASE_NAME = "base"


@contextlib.contextmanager
def vllm_serve(settings: VllmSettings, adapters: dict[str, Path]) -> Iterator[str]:
    """The URL of ``vllm serve`` over the default base with ``adapters`` by name, while the block lasts."""
    with (
        reserved_address() as address,
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "vllm.log").open("wb") as log,
    ):
        url = f"http://{address}"
        process = tied.start(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *_arguments(settings, address, adapters)],
            env={**os.environ, **environment(settings)},
            stdout=log,
            stderr=log,
        )
        try:
            eventually(lambda: process.poll() is not None or _answers(url), "vLLM's server answers", _START_SECONDS)
            if process.poll() is not None:
                raise RuntimeError(f"vLLM's server ended by itself:\n{Path(log.name).read_text()[-40000:]}")
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _arguments(settings: VllmSettings, address: str, adapters: dict[str, Path]) -> list[str]:
    modules = [json.dumps({"name": name, "path": str(path)}) for name, path in adapters.items()]
    return [
        *("--model", str(settings.base_folder)),
        *("--served-model-name", BASE_NAME),
        *("--host", address.partition(":")[0]),
        *("--port", address.partition(":")[2]),
        *("--dtype", settings.dtype),
        *("--max-model-len", str(settings.context_tokens)),
        *("--max-num-seqs", str(settings.max_sequences)),
        *("--kv-cache-memory-bytes", str(settings.kv_cache_bytes)),
        *("--generation-config", "vllm"),
        "--enforce-eager" if settings.enforce_eager else "--no-enforce-eager",
        "--enable-prefix-caching",
        "--disable-log-stats",
        "--enable-lora",
        *("--max-loras", str(settings.slots)),
        *("--max-cpu-loras", str(settings.slots)),
        *("--max-lora-rank", str(settings.max_rank)),
        *("--lora-target-modules", *names(chosen(module_shapes(settings.base_folder), settings.targets))),
        *(("--lora-modules", *modules) if modules else ()),
    ]


def settings_of_the_suite() -> VllmSettings:
    """The engine's settings as `trivium up` leaves them."""
    found, settings = resolve(DEFAULT_BASE), GeneratorSettings()
    return vllm_settings(settings, Base(found.name, found.digest, found.path, always_on=True), settings.max_loras)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
