"""A canary on the real engine: who got it keeps it, by whatever door, and every answer names the version that made it."""

import uuid

from openai import OpenAI
from trivium_client.answers import Message, Sampling

from services.ops.supervisor import Suite
from tests.integration.command_line import trivium
from tests.integration.gateway.stock import serve_adapter
from tests.stack import eventually

# All of them on one side of a half: once in 2 ** 15.
CALLERS = [f"caller-{number}" for number in range(16)]


def test_each_caller_stays_with_the_version_that_it_got_and_the_answer_names_it(suite: Suite) -> None:
    model = f"tried-{uuid.uuid4().hex[:8]}"
    first = serve_adapter(suite, model, 21).version
    second = serve_adapter(suite, model, 22).version
    with suite.client() as client:
        client.models.roll_back(model, reason="the new one is tried first")
        # At once where the former is still loaded; in the shared suite others may have needed its slot.
        back = client.models.wait_alias(model)
        assert (back.state, back.serving_version, back.previous_version) == ("serving", first, second)
        client.models.set_canary(model, second, 50)

        def tried() -> bool:
            return [canary.state for canary in client.models.alias(model).canaries] == ["serving"]

        eventually(tried, "the canary gets its share")

        def answered(caller: str) -> str:
            sampling = Sampling(max_tokens=1)
            return client.reply([Message("user", "Hi")], model=model, sampling=sampling, sticky_key=caller).version

        got = {caller: answered(caller) for caller in CALLERS}
        assert set(got.values()) == {first, second}
        assert all(answered(caller) == got[caller] for caller in CALLERS[:6])

        openai = OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, max_retries=0)
        for caller in CALLERS[:4]:
            answer = openai.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=1, user=caller
            )
            assert answer.model_extra is not None
            assert answer.model_extra["trivium"]["version"] == got[caller]

        for caller in CALLERS[:2]:
            told = trivium(suite, "chat", "Hi", "-m", model, "--max-tokens", "1", "--sticky-key", caller, "--json")
            assert told.json["final"]["receipt"]["version"] == got[caller]
            route = trivium(suite, "models", "route", model, "--sticky-key", caller, "--json").json
            assert (route["version"], route["canary"]) == (got[caller], got[caller] == second)

        client.models.set_canary(model, second, 0)
        assert {answered(caller) for caller in CALLERS if got[caller] == second} == {first}
