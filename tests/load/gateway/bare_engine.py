"""vLLM's own server with the settings and the plug-in of the suite's engine: the floor that the door is held to.

It is what ``vllm serve`` runs, by the module's name: the command asks for a distribution called ``vllm``, and that for
processors has another name.
"""

import contextlib
import json
import os
import socket
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
from tests.stack import eventually

# One that has ended is noticed at once; a busy machine takes its time.
_START_SECONDS = 900.0
BASE_NAME = "base"


@contextlib.contextmanager
def vllm_serve(settings: VllmSettings, adapters: dict[str, Path]) -> Iterator[str]:
    """The URL of ``vllm serve`` over the default base with ``adapters`` by name, while the block lasts."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "vllm.log").open("wb") as log:
        process = tied.start(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *_arguments(settings, port, adapters)],
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


def _arguments(settings: VllmSettings, port: int, adapters: dict[str, Path]) -> list[str]:
    modules = [json.dumps({"name": name, "path": str(path)}) for name, path in adapters.items()]
    return [
        *("--model", str(settings.base_folder)),
        *("--served-model-name", BASE_NAME),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
