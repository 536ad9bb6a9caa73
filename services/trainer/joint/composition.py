"""Put a worker together: the base, the bank, the threads around them.

Invariant: when the block ends, all that was given to be written is written and every word about it is in the inbox.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from services.trainer import checkpoints
from services.trainer.bank import Bank, Segment
from services.trainer.data.examples import Example
from services.trainer.formulas import attention_of
from services.trainer.joint.admitting import Admission
from services.trainer.joint.budget import probe_lengths, step_limits
from services.trainer.joint.encoder import DatasetEncoder
from services.trainer.joint.group import Facts, Group, Say
from services.trainer.joint.keeping import Keeper
from services.trainer.joint.preparing import Preparer
from services.trainer.work import WorkerOrder

# Snapshots that wait to be written may take this part of the memory, and jobs that wait to be taken in as much.
_WAITING_SHARE = 0.05
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Unjoinable(Exception):
    """No job can train jointly on the base; the text says why."""


@contextmanager
def open_group(
    order: WorkerOrder,
    report: Callable[[Any], None],
    say: Say,
    encoder: DatasetEncoder,
    *,
    code: str,
    libraries: dict[str, str],
    cache: Path | None,
    at: checkpoints.WritePoint,
) -> Iterator[Group]:
    """Load the base and start the threads; `report` is given what they have done.  Raises Unjoinable."""
    torch.set_num_threads(order.threads)
    # Nobody looks at it, and the log would be full of it.
    disable_progress_bar()
    base = load_base(Path(order.base_folder), _DTYPES[order.dtype])
    try:
        bank = Bank(base)
    except ValueError as error:
        raise Unjoinable(str(error)) from error
    limits = step_limits(cache, lambda tokens: _probe(bank, tokens))
    most_bytes = int(order.memory_bytes * _WAITING_SHARE)
    preparer = Preparer(encoder, report, most_bytes=most_bytes)
    keeper = Keeper(report, most_bytes=most_bytes, at=at)
    threads = [
        threading.Thread(target=preparer.run, name="preparer"),
        threading.Thread(target=keeper.run, name="keeper"),
    ]
    for thread in threads:
        thread.start()
    # Wanted when the first job ends, and seconds to load: not then, where all others would wait.
    threading.Thread(target=import_module, args=("peft",), name="loader", daemon=True).start()
    try:
        yield Group(
            bank,
            Admission(bank, base, order, Decoder(Path(order.base_folder)).decode),
            preparer,
            keeper,
            say,
            limits=limits,
            facts=Facts(code, libraries, order.threads),
        )
    finally:
        preparer.close()
        keeper.close()
        for thread in threads:
            thread.join()


def load_base(folder: Path, dtype: torch.dtype) -> Any:
    """The base in `folder`, as jobs train on it and are evaluated with it."""
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    return AutoModelForCausalLM.from_pretrained(
        str(folder),
        **attention_of(config),
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )


class Decoder:
    """Turns tokens into text; the tokenizer is loaded when the first answer is generated."""

    def __init__(self, base_folder: Path) -> None:
        self._base_folder = base_folder

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(str(self._base_folder), trust_remote_code=False, local_files_only=True)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, without marks and without the space around it."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.strip()


def _probe(bank: Bank, tokens: int) -> None:
    """Take so many tokens through the bare base."""
    sequences = [Example((0,) * length, (False,) * (length - 1) + (True,)) for length in probe_lengths(tokens)]
    with torch.no_grad():
        bank.score([Segment(None, sequences, keeps_gradient=False)])
