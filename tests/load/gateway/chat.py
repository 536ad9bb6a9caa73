"""The part ``chat``: completions through the whole suite, beside ``vllm serve`` alone.

Both engines have the same settings, the same plug-in and the same adapters; each is loaded while the other is idle.
"""

import hashlib
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from services.generator.plugin.identity import IDENTITY_FILE, WEIGHTS_FILE, Identity
from services.ops.supervisor import launch
from tests.integration.gateway.stock import adapter_files, serve
from tests.load.gateway.bare_engine import BASE_NAME, settings_of_the_suite, vllm_serve
from tests.load.gateway.loading import Door, at_once
from tests.load.gateway.parts import Figures, say
from tests.load.gateway.streams import alternating
from tests.load.percentile import percentile
from tests.load.trainer.parts import spread

_STREAMS = 32
_TOKENS = 64
# Many short rounds: the cores' speed goes up and down within minutes, and a round compares what lies side by side.
_ROUNDS = 12
_REQUESTS = 2 * _STREAMS
_DRAWS = 2000
_ADAPTER = "edge-voice"


def figures(scale: float) -> Figures:
    """``throughput_ratio``, ``ttft_overhead_ms`` and ``token_gap_overhead_ms``, for the base and for an adapter."""
    with tempfile.TemporaryDirectory() as folder, launch(Path(folder) / "suite") as suite:
        files = _adapter(Path(folder) / "adapter")
        serve(suite, _ADAPTER, adapter_files(1))
        with vllm_serve(settings_of_the_suite(), {_ADAPTER: files}) as url:
            pairs = [
                (Door("suite", suite.http, suite.api_key, model), Door("vllm", url, "none", model))
                for model in (BASE_NAME, _ADAPTER)
            ]
            found: Figures = {}
            for pair, of in zip(pairs, ("", "adapter_"), strict=True):
                found |= _throughput(pair, of, scale) | _first_tokens(pair, of, scale)
            return found


def _throughput(doors: tuple[Door, Door], of: str, scale: float) -> Figures:
    # How many rounds there are says how sure a ratio is, and how long one is what it is of.
    requests = _REQUESTS if scale >= 0.25 else _STREAMS
    for door in doors:
        at_once(door, streams=_STREAMS, requests=_STREAMS, tokens=8)
    ratios, rates = [], []
    for number in range(max(1, round(_ROUNDS * scale))):
        # In turn: whoever goes first is as often the one as the other.
        order = doors if number % 2 == 0 else doors[::-1]
        seconds = {}
        for door in order:
            loaded = at_once(door, streams=_STREAMS, requests=requests, tokens=_TOKENS)
            if loaded.served != requests:
                raise RuntimeError(f"{door.name}: {loaded}")
            seconds[door.name] = loaded.seconds
        ratios.append(seconds["vllm"] / seconds["suite"])
        rates.append(requests * _TOKENS / seconds["suite"])
        say(f"{of or 'base '}throughput: {rates[-1]:.0f} tokens/s through the suite, {ratios[-1]:.3f} of vllm serve")
    return told_throughput(of, ratios, rates)


def told_throughput(of: str, ratios: list[float], rates: list[float]) -> Figures:
    """The figures of rounds: the suite's rate over the bare engine's, and its tokens a second."""
    return {
        f"{of}throughput_ratio": statistics.median(ratios),
        f"{of}throughput_ratio_ci": _interval(lambda drawn: statistics.median(drawn(ratios))),
        f"{of}throughput_ratios": sorted(ratios),
        f"{of}tokens_per_second": statistics.median(rates),
    }


def _first_tokens(doors: tuple[Door, Door], of: str, scale: float) -> Figures:
    # First tokens scatter by a fifth of themselves from one to the next, so that a few milliseconds show in hundreds alone.
    short = alternating(doors, rounds=max(3, round(300 * scale)), tokens=2)
    long = alternating(doors, rounds=max(3, round(30 * scale)), tokens=24, first=1000)
    first = {name: [it.first_ms for it in streams] for name, streams in short.items()}
    gaps = {name: [gap for it in streams for gap in it.gaps_ms] for name, streams in long.items()}
    return told_first_tokens(of, first, gaps)


def told_first_tokens(of: str, first: dict[str, list[float]], gaps: dict[str, list[float]]) -> Figures:
    """The line for people, and the figures; milliseconds by door."""
    for name, values in first.items():
        say(f"{of}{name}: first token {spread(values)} ms, gap {statistics.median(gaps[name]):.2f} ms")
    middle = {name: statistics.median(values) for name, values in first.items()}
    return {
        f"{of}ttft_ms": middle,
        f"{of}ttft_overhead_ms": middle["suite"] - middle["vllm"],
        f"{of}ttft_overhead_ms_ci": _interval(
            lambda drawn: statistics.median(drawn(first["suite"])) - statistics.median(drawn(first["vllm"]))
        ),
        f"{of}token_gap_overhead_ms": statistics.median(gaps["suite"]) - statistics.median(gaps["vllm"]),
        f"{of}token_gap_p99_overhead_ms": percentile(gaps["suite"], 0.99) - percentile(gaps["vllm"], 0.99),
    }


def _interval(of: Callable[[Callable[[list[float]], list[float]]], float]) -> tuple[float, float]:
    """95 % of a figure by bootstrap: ``of`` makes it of what it is given a way to draw from."""
    source = random.Random(0)

    def drawn(values: list[float]) -> list[float]:
        return source.choices(values, k=len(values))

    found = sorted(of(drawn) for _ in range(_DRAWS))
    return percentile(found, 0.025), percentile(found, 0.975)


def _adapter(folder: Path) -> Path:
    """The adapter's files with the identity that the plug-in proves them by: vLLM asks for it by its name."""
    folder.mkdir(parents=True)
    files = adapter_files(1)
    digest = f"sha256:{hashlib.sha256(files[WEIGHTS_FILE]).hexdigest()}"
    rank = int(json.loads(files["adapter_config.json"])["r"])
    for name, content in {**files, IDENTITY_FILE: Identity(_ADAPTER, digest, rank).text().encode()}.items():
        (folder / name).write_bytes(content)
    return folder
