"""Answers a set's test rows with a model, greedily, in a process of its own: ``... answering ORDER OUTPUT``.

A process for each model makes memory and processor time that model's own.  What every prompt begins with is computed
once, so that a prompt with 77 examples can be asked 770 times.
Invariant: a line of the output is one whole batch; a process that was killed goes on behind the last whole one, and
which rows share a batch depends on the order alone.
"""

import copy
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.load.finetune_quality.rows import Row
from tests.peak_memory import peak_memory_bytes

_BATCH_ROWS = 32
# Of all rows of a batch together: what the shared beginning may take of them in memory.
_BATCH_TOKENS = 32 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of which model.  All three are folders; `adapter`, in PEFT's layout, may be empty.

    `answer_tokens` 0 asks for no answers but how much likelier each row's better answer is than the worse one.
    """

    tokenizer: str
    model: str
    adapter: str
    system: str
    shots: tuple[Row, ...]
    rows: tuple[Row, ...]
    answer_tokens: int

    def write(self, path: Path) -> None:
        """Store it."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> "Order":
        """Read it back."""
        fields = json.loads(path.read_text())
        rows = {name: tuple(Row(**row) for row in fields[name]) for name in ("shots", "rows")}
        return cls(**{**fields, **rows})


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows by their place, what was found of each (an answer, or nats), and what it took."""

    places: list[int]
    found: list[Any]
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def batches_in(path: Path) -> list[Batch]:
    """What an output holds; half a line at its end counts for nothing."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [Batch(**json.loads(line)) for line in lines if line.endswith(b"\n")]


class Prompts:
    """The prompts of an order in tokens, longest first so that memory is known early, and their common beginning."""

    def __init__(self, tokenizer: Any, order: Order) -> None:
        self._tokenizer = tokenizer
        opening = [{"role": "system", "content": order.system}]
        for shot in order.shots:
            opening += [{"role": "user", "content": shot.text}, {"role": "assistant", "content": shot.answer}]
        self.tokens = [
            self._ids(
                tokenizer.apply_chat_template(
                    [*opening, {"role": "user", "content": row.text}], tokenize=False, add_generation_prompt=True
                )
            )
            for row in order.rows
        ]
        self.shared = _common_beginning(self.tokens)
        self.order = sorted(range(len(self.tokens)), key=lambda place: -len(self.tokens[place]))

    def answer(self, text: str) -> list[int]:
        """An answer and the token that ends it."""
        return [*self._ids(text), self._tokenizer.eos_token_id]

    def batches(self) -> Iterator[list[int]]:
        """Places of the rows that are asked together."""
        size = max(1, min(_BATCH_ROWS, _BATCH_TOKENS // max(1, len(self.shared))))
        for begin in range(0, len(self.order), size):
            yield self.order[begin : begin + size]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids


def _common_beginning(prompts: Sequence[list[int]]) -> list[int]:
    """The tokens that all prompts begin with; each has at least one more behind them."""
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    length = next((at for at in range(most) if first[at] != last[at]), most)
    return first[:length]


class Asked:
    """A model that has read the common beginning of an order's prompts."""

    def __init__(self, model: Any, shared: Sequence[int]) -> None:
        from transformers import DynamicCache

        self._model = model
        self._shared = list(shared)
        self._cache = DynamicCache(config=model.config)
        if self._shared:
            with torch.no_grad():
                model(input_ids=torch.tensor([self._shared]), past_key_values=self._cache, use_cache=True)

    def answers(self, prompts: Sequence[Sequence[int]], answer_tokens: int, end: int) -> list[list[int]]:
        """Greedy answers, without the token `end` that ends them; at most `answer_tokens` of each."""
        tokens, attention = self._padded([prompt[len(self._shared) :] for prompt in prompts], end, left=True)
        with torch.no_grad():
            found = self._model.generate(
                input_ids=tokens,
                attention_mask=attention,
                past_key_values=self._copied(len(prompts)),
                max_new_tokens=answer_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=end,
                eos_token_id=end,
            )
        return [_until(row, end) for row in found[:, tokens.shape[1] :].tolist()]

    def log_likelihoods(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], padding: int
    ) -> list[float]:
        """Of each answer behind its prompt, the sum over its tokens, in nats."""
        rests = [[*prompt[len(self._shared) :], *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        tokens, attention = self._padded(rests, padding, left=False)
        begin = len(self._shared)
        with torch.no_grad():
            logits = self._model(
                input_ids=tokens[:, begin:], attention_mask=attention, past_key_values=self._copied(len(prompts))
            ).logits
        found = []
        for row, (rest, answer) in enumerate(zip(rests, answers, strict=True)):
            behind = slice(len(rest) - len(answer) - 1, len(rest) - 1)
            # The token at a place is predicted at the place before it.
            nats = torch.log_softmax(logits[row, behind].float(), dim=-1)
            found.append(float(nats[torch.arange(len(answer)), torch.tensor(answer)].sum()))
        return found

    def _padded(self, rests: Sequence[Sequence[int]], padding: int, *, left: bool) -> tuple[Any, Any]:
        """Tokens and attention [rows, shared + longest rest]."""
        begin, width = len(self._shared), max(map(len, rests))
        tokens = torch.full((len(rests), begin + width), padding)
        attention = torch.zeros_like(tokens)
        tokens[:, :begin] = torch.tensor(self._shared, dtype=tokens.dtype)
        attention[:, :begin] = 1
        for row, rest in enumerate(rests):
            start = begin + (width - len(rest) if left else 0)
            tokens[row, start : start + len(rest)] = torch.tensor(rest)
            attention[row, start : start + len(rest)] = 1
        return tokens, attention

    def _copied(self, rows: int) -> Any:
        cache = copy.deepcopy(self._cache)
        if self._shared:
            cache.batch_repeat_interleave(rows)
        return cache


def _until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


def loaded(order: Order) -> tuple[Any, Any]:
    """The model in bf16, as it is served, with its adapter in fp32, as it was trained; and the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(order.model, dtype=torch.bfloat16)
    if order.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, order.adapter)
    return model.eval(), AutoTokenizer.from_pretrained(order.tokenizer)


def answered(order: Order, output: Path) -> None:
    """Answer what `output` lacks, a line a batch."""
    known = {tuple(batch.places) for batch in batches_in(output)}
    if sum(map(len, known)) == len(order.rows):
        return
    model, tokenizer = loaded(order)
    prompts = Prompts(tokenizer, order)
    asked = Asked(model, prompts.shared)
    _cut_half_line(output)
    with output.open("ab") as file:
        for places in prompts.batches():
            if tuple(places) in known:
                continue
            wall, cpu = time.monotonic(), time.process_time()
            found = _found(asked, prompts, order, tokenizer, places)
            peak = peak_memory_bytes()
            batch = Batch(places, found, time.monotonic() - wall, time.process_time() - cpu, peak)
            file.write(json.dumps(asdict(batch), ensure_ascii=False).encode() + b"\n")
            file.flush()


def _found(asked: Asked, prompts: Prompts, order: Order, tokenizer: Any, places: list[int]) -> list[Any]:
    tokens = [prompts.tokens[place] for place in places]
    end = tokenizer.eos_token_id
    if order.answer_tokens:
        given = asked.answers(tokens, order.answer_tokens, end)
        return [tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in given]
    sides = [
        asked.log_likelihoods(tokens, [prompts.answer(text) for text in texts], end)
        for texts in (
            [order.rows[place].answer for place in places],
            [order.rows[place].rejected for place in places],
        )
    ]
    return [better - worse for better, worse in zip(*sides, strict=True)]


def _cut_half_line(path: Path) -> None:
    """What was killed in the middle of a line left its beginning."""
    if path.exists():
        content = path.read_bytes()
        path.write_bytes(content[: content.rfind(b"\n") + 1])


if __name__ == "__main__":
    answered(Order.read(Path(sys.argv[1])), Path(sys.argv[2]))
