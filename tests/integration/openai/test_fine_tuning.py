"""A fine-tuned model chats by the name that its job ends with; how jobs are made and told is in tests/contract/trainer."""

from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob

from services.ops.supervisor import Suite

ASKED: Any = [{"role": "user", "content": "Do dogs pay?"}]
SECONDS = 240.0


def test_a_job_ends_with_the_name_of_a_model_that_chats(suite: Suite, fine_tuned: FineTuningJob) -> None:
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=SECONDS) as client:
        done = client.fine_tuning.jobs.retrieve(fine_tuned.id)
        assert done.status == "succeeded", done.error
        assert done.fine_tuned_model is not None
        answer = client.chat.completions.create(model=done.fine_tuned_model, messages=ASKED, max_tokens=4)
        assert answer.model_extra is not None
        assert done.fine_tuned_model.endswith(f"@{answer.model_extra['trivium']['version']}")
        assert answer.choices[0].message.content
