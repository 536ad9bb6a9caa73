from collections import Counter
from typing import Any

import pytest

from services.retriever.ingestion.embeddings import Vectors
from services.retriever.text.languages import Languages

PARAGRAPHS = {
    "Thai": "กรมธรรม์ประกันภัยคุ้มครองเรือที่จอดอยู่ในท่าเรือทุกลำ",
    "Chinese": "这份合同说明了码头停泊一晚的费用，还包括水费。",
    "Korean": "정박 요금은 하룻밤에 열네 크로네이며 물값이 포함됩니다.",
    "Cyrillic": "Стоимость стоянки составляет четырнадцать крон за ночь.",
    "Devanagari": "जहाज का किराया चौदह क्राउन प्रति रात है और पानी मुफ्त है।",
}


class Multilingual:
    """Stands for a model that knows every script: few tokens a word, and a vector of its own for each."""

    async def count(self, texts):
        return [max(1, len(text) // 4) for text in texts]

    async def documents(self, texts):
        return Vectors("multilingual", tuple(text.encode() for text in texts))


@pytest.mark.parametrize("script", PARAGRAPHS)
async def test_a_script_that_the_default_model_does_not_know_is_named(embeddings, script):
    notice = await Languages().notice(PARAGRAPHS[script], embeddings.digest, embeddings)
    assert f"does not know {script} (" in notice


@pytest.mark.parametrize("text", ["A mooring costs 14 crowns.", "Die Fähre fährt täglich außer sonntags.", ""])
async def test_latin_script_needs_no_notice(embeddings, text):
    assert await Languages().notice(text, embeddings.digest, embeddings) == ""
    assert embeddings.embedded == []


async def test_a_quotation_needs_no_notice(embeddings):
    text = "The word for harbour is " + "порт, and that is all that there is to say about it. " * 3
    assert await Languages().notice(text, embeddings.digest, embeddings) == ""


@pytest.mark.parametrize("script", PARAGRAPHS)
async def test_a_multilingual_model_needs_no_notice(script):
    model: Any = Multilingual()
    assert await Languages().notice(PARAGRAPHS[script], "m", model) == ""


async def test_each_script_is_asked_about_once(embeddings):
    languages = Languages()
    for _ in range(3):
        await languages.notice(PARAGRAPHS["Thai"], embeddings.digest, embeddings)
    assert max(Counter(embeddings.embedded).values()) == 1


async def test_a_document_that_the_model_cannot_read_is_ready_and_says_so(house):
    document = await house.ingested("thai.txt", PARAGRAPHS["Thai"])
    assert document.state == "ready"
    assert document.notice.startswith("The embedding model does not know Thai")
    assert (await house.ingested("thai.txt", "Now in English.")).notice == ""
