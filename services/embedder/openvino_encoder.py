"""The same encoder computed by OpenVINO, which comes with the extra of that name.

The module that torch would run is converted in memory: nothing is fetched and nothing
exported.  Invariant: OpenVINO's package of usage statistics is never imported here, so
nobody is asked for consent and nothing is sent; and a text's bits are its own, as in torch
(the trial of a start, and the tests, look at both).
"""

import importlib
import importlib.metadata
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from services.chassis.errors import Failure, Reason
from services.chassis.models import ResolvedModel
from services.chassis.processor import processor
from services.embedder.batching import Batch, Product, Vector
from services.embedder.model import EncoderFacts, torch_module

# Its converter reports every use to its maker unless this package is absent; None is Python's word for absent.
_STATISTICS = "openvino_telemetry"
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEncoder:
    """A compiled encoder.  Used in one thread; it computes in as many as it was compiled for."""

    def __init__(self, facts: EncoderFacts, compiled: Any, pad_id: int) -> None:
        self.facts = facts
        self.pads = True
        self._request = compiled.create_infer_request()
        self._pad_id = pad_id

    def compute(self, batch: Batch) -> list[Vector]:
        """One array a sequence: [dimensions] of length 1, or [tokens, dimensions] with rows of length 1.  Blocks."""
        ids = np.full((len(batch.sequences), batch.length), self._pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, sequence in enumerate(batch.sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        # hidden: [rows, length, d_model], the engine's own memory until the next batch.
        hidden: Vector = self._request.infer([ids, mask])[0]
        if batch.product is Product.TOKENS:
            rows = _normalised(hidden)
            return [rows[row, : len(sequence)] for row, sequence in enumerate(batch.sequences)]
        weight = mask[:, :, None].astype(np.float32)
        return list(_normalised((hidden * weight).sum(axis=1) / weight.sum(axis=1)))


def _normalised(vectors: Vector) -> Vector:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def version() -> str:
    """The installed version; empty where there is none."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return ""


def load(model: ResolvedModel, facts: EncoderFacts, *, dtype: str, threads: int) -> OpenVinoEncoder:
    """The encoder in ``model``'s folder, computing in ``dtype`` ("float32" or "bfloat16").  Blocks for some seconds.

    Raises EMBEDDING_ENGINE_MISSING without the extra, MODEL_SOURCE_INVALID.
    """
    openvino = _imported()
    import torch

    torch.set_num_threads(threads)
    module, pad_id = torch_module(model, "float32")
    example = torch.ones(2, 16, dtype=torch.long)
    with warnings.catch_warnings():
        # Of tracing: that shapes were compared in Python, which the tests of other shapes look at.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(_hidden_of(module), example_input=(example, example))
    compiled = openvino.Core().compile_model(
        converted,
        "CPU",
        {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1},
    )
    here = processor()
    instructions = " ".join(sorted(here.instructions))
    build = f"{model.digest} openvino {version()} {dtype} {threads} {here.vendor} {instructions}"
    return OpenVinoEncoder(replace(facts, compute_dtype=dtype, build=build), compiled, pad_id)


def _imported() -> Any:
    sys.modules.setdefault(_STATISTICS, None)  # type: ignore[arg-type]  # this is how a module is declared absent
    try:
        return importlib.import_module("openvino")
    except ImportError:
        raise Failure(
            Reason.EMBEDDING_ENGINE_MISSING,
            engine="openvino",
            problem="the package is not installed. Install the extra openvino, or set TRIVIUM_EMBEDDER_ENGINE=torch",
        ) from None


def _hidden_of(module: Any) -> Any:
    """A module of ids and mask [rows, length] to the last hidden states [rows, length, d_model]."""
    import torch

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.inner(input_ids=ids, attention_mask=mask).last_hidden_state

    return Hidden()
