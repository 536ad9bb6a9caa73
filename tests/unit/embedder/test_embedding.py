import asyncio

import numpy as np
import pytest

from services.chassis.errors import Failure, Reason
from services.embedder.embedding import Asking, Use, Wanted
from services.embedder.ordered import in_order
from services.embedder.reranking import late_interaction

ADA = Asking("ada")


def wanted(*texts, use=Use.DOCUMENT, **rest):
    return Wanted("", texts, use, **rest)


async def test_truncation_is_reported_text_by_text_with_the_whole_count(embedder):
    embedded = await embedder.embed(ADA, wanted("short", "long " * 400))
    assert embedded.truncated == (False, True)
    assert embedded.token_counts == (3, 402)
    assert embedded.vectors.shape == (2, 384)


async def test_a_text_cut_at_the_limit_equals_its_beginning(embedder):
    embedded = await embedder.embed(ADA, wanted("long " * 400, "long " * 254))
    assert np.array_equal(embedded.vectors[0], embedded.vectors[1])


async def test_concurrent_requests_do_not_change_each_others_vectors(embedder):
    texts = [f"Boat {n} carries {n * 3} passengers to the north stage" for n in range(30)]
    single = [await embedder.embed(ADA, wanted(text)) for text in texts]
    crowd = await asyncio.gather(*(embedder.embed(Asking(f"t{n % 3}"), wanted(text)) for n, text in enumerate(texts)))
    for one, other in zip(single, crowd, strict=True):
        assert np.array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (wanted("  \n"), Reason.TEXT_EMPTY),
        (Wanted("none", ("a",), Use.QUERY), Reason.EMBEDDING_MODEL_NOT_FOUND),
        (wanted("a", dimensions=128), Reason.FIELD_INVALID),
        (wanted("a", dimensions=1024), Reason.FIELD_INVALID),
    ],
)
async def test_a_request_that_cannot_be_served_says_why(embedder, asked, reason):
    with pytest.raises(Failure) as failed:
        await embedder.embed(ADA, asked)
    assert failed.value.reason is reason


async def test_tokens_give_the_vectors_of_the_text_that_they_are_of(embedder, tokenizer):
    texts = ["The ferry leaves at nine", "long " * 400]
    [short, cut] = [ids[1:-1] for ids in tokenizer.ids(texts)]
    of_texts = await embedder.embed(ADA, wanted(*texts))
    of_tokens = await embedder.embed(ADA, Wanted("", (), Use.DOCUMENT, tokens=(short, cut)))
    assert np.array_equal(of_tokens.vectors, of_texts.vectors)
    assert (of_tokens.token_counts, of_tokens.truncated) == (of_texts.token_counts, of_texts.truncated)


async def test_tokens_of_another_model_are_refused_where_they_stand(embedder):
    with pytest.raises(Failure) as failed:
        await embedder.embed(ADA, Wanted("", (), Use.DOCUMENT, tokens=((5,), (7, 50_000))))
    assert (failed.value.reason, failed.value.field) == (Reason.FIELD_INVALID, "token_ids[1]")
    assert "texts" in failed.value.sentence


async def test_counts_include_the_special_tokens(embedder):
    assert (await embedder.count(ADA, "", ["", "ferry", "ferry ferry"])).token_counts == (2, 3, 4)


async def test_reranking_prefers_the_passage_that_answers(reranker):
    passages = ["Paint is ordered in March.", "A single crossing costs six crowns.", "The fog horn sounds twice."]
    ranked = await reranker.rank(ADA, "", "What is the fare of one crossing?", passages)
    assert max(range(3), key=ranked.scores.__getitem__) == 1
    assert all(-1 <= score <= 1 for score in ranked.scores)


def test_late_interaction_is_one_for_a_text_with_itself():
    states = np.eye(4, dtype=np.float32)
    assert late_interaction(states, states) == 1


async def test_a_stream_answers_in_order_and_works_ahead_by_a_bounded_number():
    running = greatest = 0
    fourth_begun = asyncio.Event()

    async def requests():
        for n in range(6):
            yield n

    async def answer(n):
        nonlocal running, greatest
        running += 1
        greatest = max(greatest, running)
        if n == 3:
            fourth_begun.set()
        await fourth_begun.wait()
        running -= 1
        return n

    assert [n async for n in in_order(requests(), answer, ahead=4)] == list(range(6))
    assert greatest == 4


async def test_a_stream_ends_with_its_first_failure_and_cancels_what_follows():
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def requests():
        for n in range(3):
            yield n

    async def answer(n):
        if n == 1:
            await begun.wait()
            raise Failure(Reason.TEXT_EMPTY, index=0)
        if n == 2:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return n

    answers = in_order(requests(), answer, ahead=3)
    assert await anext(answers) == 0
    with pytest.raises(Failure):
        await anext(answers)
    await asyncio.wait_for(cancelled.wait(), 5)
