"""Try the demo's material without any service: `python -m services.ops.demo.trial`.

Trains on a slot bank in this process, as the trainer's worker does, asks the four roads greedily through transformers,
prints the table and one line of JSON.  The demo itself goes through the services; this is for whoever changes a page,
a pair or the recipe.
Invariant: what is trained here is, bit for bit, what the demo's job becomes with the same settings and threads.
"""

import argparse
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gateway.asking.prompt import Quotation
from services.chassis import models
from services.ops.demo.prompt import bare_messages, grounded_messages
from services.ops.demo.recipe import RECIPE, SOURCES
from services.ops.demo.scoring import FOLDER, Question, Score, questions, score, table
from services.trainer.bank import Bank, Slot
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.reading import read
from services.trainer.data.rows import Row
from services.trainer.divergence import Watch
from services.trainer.joint.admitting import spec_of
from services.trainer.joint.dataset import Splits, rows_of
from services.trainer.joint.member import Member
from services.trainer.joint.stepping import step
from services.trainer.settings import Schedule, Settings

_MAX_NEW_TOKENS = 48


def sections() -> Iterator[tuple[str, Quotation]]:
    """Every section of the handbook as the retriever would cut it: page, and title with text."""
    for page in sorted((FOLDER / "handbook").glob("*.md")):
        title, *parts = re.split(r"^#{1,2} (.+)$", page.read_text(), flags=re.MULTILINE)[1:]
        for text in parts[2::2]:
            yield page.name, Quotation(title, " ".join(text.split()))


def retrieved(question: Question, known: list[Quotation], count: int) -> list[Quotation]:
    """The best sections by BM25 (Lucene's formula and constants), best first."""
    texts = [Counter(re.findall(r"\w+", f"{source.title} {source.text}".lower())) for source in known]
    mean = sum(text.total() for text in texts) / len(texts)

    def weight(word: str) -> float:
        holders = sum(word in text for text in texts)
        return math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))

    words = set(re.findall(r"\w+", question.question.lower()))

    def rank(text: Counter[str]) -> float:
        norm = 1.2 * (0.25 + 0.75 * text.total() / mean)
        return sum(weight(word) * text[word] * 2.2 / (text[word] + norm) for word in words if text[word])

    order = sorted(range(len(known)), key=lambda index: -rank(texts[index]))
    return [known[index] for index in order[:count]]


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The model's greedy answer."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(
            **prompt, max_new_tokens=_MAX_NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
    said: str = tokenizer.decode(tokens[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def trained(bank: Bank, base: Any, encoder: ChatEncoder, settings: Settings) -> tuple[Slot, dict[str, float]]:
    """Train on the pairs; return the adapter's slot and what it took.  Raises Refused."""
    with (FOLDER / "pairs.jsonl").open("rb") as file:
        rows = [row for row in read(file) if isinstance(row, Row)]
    pairs = rows_of([encoder.encode(row.turns) for row in rows], settings.max_row_tokens)
    slot = bank.open(spec_of(settings, base))
    member = Member(slot, Splits(pairs), settings, encoder.tokenizer.decode, Watch(settings, base.config))
    member.begin()
    began = time.monotonic()
    while not member.finished:
        (went,) = step(bank, [member])
        if went.refusal is not None:
            raise went.refusal
        progress = member.progress
        if member.between_steps and progress.step % 10 == 0:
            print(f"step {progress.step}/{progress.total_steps} loss {progress.loss:.3f}", flush=True)
    return slot, {
        "pairs": len(rows),
        "steps": member.progress.step,
        "trained_tokens": member.progress.trained_tokens,
        "train_seconds": round(time.monotonic() - began, 1),
        "loss": round(member.progress.loss, 4),
    }


def main() -> None:
    """Train, ask, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=RECIPE["seed"])
    parser.add_argument("--learning-rate", type=float, default=RECIPE["learning_rate"])
    parser.add_argument("--batch-rows", type=int, default=RECIPE["batch_rows"])
    parser.add_argument("--schedule", choices=[entry.value for entry in Schedule], default=RECIPE["schedule"])
    parser.add_argument("--skip-base", action="store_true", help="ask only the adapter's two roads")
    parser.add_argument("--show", action="store_true", help="print every answer")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    folder = models.resolve(models.ModelSettings().base_model).path
    settings = Settings(
        rank=RECIPE["rank"],
        alpha=RECIPE["alpha"],
        epochs=RECIPE["epochs"],
        batch_rows=asked.batch_rows,
        learning_rate=asked.learning_rate,
        schedule=Schedule(asked.schedule),
        seed=asked.seed,
    )
    encoder = ChatEncoder.load(folder)
    base = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16)
    bank = Bank(base)
    slot, facts = trained(bank, base, encoder, settings)
    known = [source for _, source in sections()]
    scores: dict[str, list[Score]] = {}
    for road in ("base", "adapter", "RAG over base", "RAG over adapter"):
        if asked.skip_base and "adapter" not in road:
            continue
        with bank.only(slot if "adapter" in road else None) as model:
            scores[road] = []
            for question in questions():
                sources = retrieved(question, known, SOURCES) if "RAG" in road else []
                messages = (
                    grounded_messages(question.question, sources) if sources else bare_messages(question.question)
                )
                said = answer(model, encoder.tokenizer, messages)
                scores[road].append(score(question, said, sources))
                if asked.show:
                    print(f"{road}: {scores[road][-1]} {said!r}")
    print(table(scores))
    outcome = {road: sum(entry.complete for entry in given) for road, given in scores.items()}
    sys.stdout.write(json.dumps({**facts, "complete": outcome}) + "\n")


if __name__ == "__main__":
    main()
