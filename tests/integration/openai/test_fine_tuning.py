"""A script written for OpenAI's fine-tuning ends with a model name that chats; the rest of it is in tests/contract/trainer."""

import json
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob

from services.ops.supervisor import Suite
from tests.stack import eventually

ASKED: Any = [{"role": "user", "content": "Which fruit is it?"}]
SECONDS = 240.0


def test_a_file_becomes_a_model_that_chats(suite: Suite) -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "Quince."}]}
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=SECONDS) as client:
        file = client.files.create(file=("fruit.jsonl", json.dumps(row).encode()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="base", training_file=file.id, suffix="fruit", hyperparameters={"n_epochs": 2}
        )

        def ended() -> FineTuningJob | None:
            found = client.fine_tuning.jobs.retrieve(job.id)
            return found if found.status in ("succeeded", "failed", "cancelled") else None

        done: FineTuningJob = eventually(ended, "the job has ended", SECONDS)
        assert done.status == "succeeded", done.error
        assert done.fine_tuned_model is not None
        answer = client.chat.completions.create(model=done.fine_tuned_model, messages=ASKED, max_tokens=4)
        assert answer.model_extra is not None
        assert done.fine_tuned_model.endswith(f"@{answer.model_extra['trivium']['version']}")
        assert answer.choices[0].message.content
