"""What a response's search is told of passages reaches the retriever: how many, of which files, how good, in which order."""

from typing import Any

import openai
import pytest
from openai.types.responses import Response

from tests.front import Front, Visitor

QUESTION = "How much is a day ticket?"
FARES = "# Fares\n\nAn adult's day ticket is 9 crowns.\n"
FOG = "# Fog\n\nIn fog the boats sail at half speed.\n"


@pytest.fixture(scope="module")
def somebody(answering: Front) -> Visitor:
    return answering.newcomer()


@pytest.fixture(scope="module")
def client(somebody: Visitor, answering: Front) -> openai.OpenAI:
    return openai.OpenAI(base_url=answering.http, api_key=somebody.key, max_retries=0)


@pytest.fixture(scope="module")
def store(client: openai.OpenAI, somebody: Visitor) -> str:
    made = client.vector_stores.create(name="Ferry")
    for about, year, text in (("money", 2024, FARES), ("weather", 2026, FOG)):
        file = somebody.file(text, f"{about}.md")
        attributes: dict[str, Any] = {"about": about, "year": year}
        client.vector_stores.files.create_and_poll(file, vector_store_id=made.id, attributes=attributes)
    return made.id


def ask(client: openai.OpenAI, store: str, **tool: Any) -> Response:
    search: Any = {"type": "file_search", "vector_store_ids": [store], **tool}
    return client.responses.create(
        input=QUESTION,
        tools=[search],
        include=["file_search_call.results"],
        max_output_tokens=2,
        store=False,
    )


def found(client: openai.OpenAI, store: str, **tool: Any) -> list[tuple[str, float]]:
    return results(ask(client, store, **tool))


def results(answer: Response) -> list[tuple[str, float]]:
    call = answer.output[0]
    assert call.type == "file_search_call"
    return [(it.filename or "", it.score or 0.0) for it in call.results or []]


def test_passages_are_as_many_as_asked_for_and_of_files_that_pass(client: openai.OpenAI, store: str) -> None:
    assert [name for name, _ in found(client, store)] == ["money.md", "weather.md"]
    assert [name for name, _ in found(client, store, max_num_results=1)] == ["money.md"]
    weather = {"type": "eq", "key": "about", "value": "weather"}
    assert [name for name, _ in found(client, store, filters=weather)] == ["weather.md"]


def where(test: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": test, "key": key, "value": value}


def every(*filters: Any) -> dict[str, Any]:
    return {"type": "and", "filters": list(filters)}


def some(*filters: Any) -> dict[str, Any]:
    return {"type": "or", "filters": list(filters)}


MONEY, WEATHER = where("eq", "about", "money"), where("eq", "about", "weather")


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (where("eq", "year", 2026), {"weather"}),
        (where("ne", "about", "weather"), {"money"}),
        (where("gt", "year", 2024), {"weather"}),
        (where("gte", "year", 2024), {"money", "weather"}),
        (where("lt", "year", 2026), {"money"}),
        (where("lte", "year", 2026), {"money", "weather"}),
        (where("in", "about", ["weather", "cargo"]), {"weather"}),
        (where("nin", "year", [2026, 2028]), {"money"}),
        (every(MONEY, where("lt", "year", 2025)), {"money"}),
        (every(MONEY, WEATHER), set()),
        (some(MONEY, WEATHER), {"money", "weather"}),
        (every(some(MONEY, WEATHER), where("gt", "year", 2025)), {"weather"}),
    ],
)
def test_a_filter_lets_the_same_files_pass_in_a_search_and_in_an_answer(
    client: openai.OpenAI, store: str, filters: Any, names: set[str]
) -> None:
    searched = client.vector_stores.search(store, query=QUESTION, filters=filters)
    assert {it.filename for it in searched.data} == {f"{name}.md" for name in names}
    answer = ask(client, store, filters=filters)
    assert {name for name, _ in results(answer)} == {f"{name}.md" for name in names}
    # It is told as it was said.
    (tool,) = answer.tools
    assert tool.to_dict()["filters"] == filters


def test_passages_are_at_least_as_good_as_asked_for(client: openai.OpenAI, store: str) -> None:
    (_, best), (_, second) = found(client, store)
    between = (best + second) / 2
    assert [name for name, _ in found(client, store, ranking_options={"score_threshold": between})] == ["money.md"]


def test_vectors_weigh_what_they_are_told_to_beside_keywords(client: openai.OpenAI, store: str) -> None:
    def of_weather(dense: float) -> float:
        weights = {"embedding_weight": dense, "text_weight": 1 - dense}
        return dict(found(client, store, ranking_options={"hybrid_search": weights})).get("weather.md", 0.0)

    assert len({of_weather(0), of_weather(0.5), of_weather(1)}) == 3


def test_a_ranker_that_there_is_not_is_refused_by_name(client: openai.OpenAI, store: str) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-ranker") as refused:
        found(client, store, ranking_options={"ranker": "no-such-ranker"})
    assert refused.value.param == "tools[0].ranking_options.ranker"
    assert [name for name, _ in found(client, store, ranking_options={"ranker": "none"})] == ["money.md", "weather.md"]
