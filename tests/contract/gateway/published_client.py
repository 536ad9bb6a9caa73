"""What becomes of each method that OpenAI's published client has on what this door is about: which test tries it, or how it is refused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai

FAMILIES = (
    "chat",
    "completions",
    "models",
    "embeddings",
    "files",
    "fine_tuning",
    "vector_stores",
    "responses",
    "batches",
)
_INTEGRATION = "tests/integration/openai"
_CHATS = f"{_INTEGRATION}/test_official_client.py"
_TOOLS = f"{_INTEGRATION}/test_tools.py"
_RESPONSES = f"{_INTEGRATION}/test_responses.py"
_STORES = f"{_INTEGRATION}/test_vector_stores.py"
_LIBRARY = "tests/contract/gateway/test_official_client_library.py"
_MODELS = "tests/contract/gateway/test_models.py"
_FILES = "tests/contract/files/test_openai_files.py::test_a_file_is_uploaded_listed_read_and_deleted"
_BATCHES = "tests/contract/files/test_openai_batches.py"
_TUNING = "tests/contract/trainer/test_fine_tuning.py"
_BATCH = f"{_BATCHES}::test_from_a_file_of_requests_to_a_file_of_answers_and_one_of_errors"
_STORE = f"{_STORES}::test_a_store_is_made_changed_listed_and_deleted"
_STORED = f"{_STORES}::test_documents_are_uploaded_searched_with_a_filter_and_read_again"
_WAITING = f"{_LIBRARY}::test_files_are_put_into_a_store_and_waited_for_in_each_way_that_there_is"
_TOGETHER = f"{_LIBRARY}::test_files_that_are_put_there_as_one_are_waited_for_and_told_of"
_PROCESSED = f"{_LIBRARY}::test_a_file_is_there_at_once_and_read_as_text_by_its_older_name"
_TRAINED = f"{_TUNING}::test_a_job_ends_with_the_exact_name_of_its_version"
_MEASURED = f"{_TUNING}::test_events_checkpoints_and_the_table_of_steps_say_what_was_measured"
_PAUSED = f"{_TUNING}::test_a_job_is_paused_goes_on_from_its_checkpoint_and_is_cancelled"
_KEPT = f"{_RESPONSES}::test_a_conversation_goes_on_by_the_response_before"

SERVED = {
    "chat.completions.create": f"{_CHATS}::test_a_chat_streams_from_the_base",
    "chat.completions.parse": f"{_CHATS}::test_a_pydantic_model_shapes_the_answer",
    "chat.completions.stream": f"{_TOOLS}::test_calls_are_streamed_and_put_together_by_the_clients_own_helper",
    "completions.create": f"{_CHATS}::test_a_text_is_continued",
    "models.list": f"{_MODELS}::test_encoders_are_listed_as_what_they_are_and_who_is_away_is_told",
    "models.retrieve": f"{_MODELS}::test_encoders_are_listed_as_what_they_are_and_who_is_away_is_told",
    "models.delete": f"{_MODELS}::test_a_fine_tuned_model_is_deleted_once",
    "embeddings.create": f"{_INTEGRATION}/test_embeddings.py::test_a_list_of_texts_becomes_the_embedders_vectors",
    "files.create": _FILES,
    "files.list": _FILES,
    "files.retrieve": _FILES,
    "files.content": _FILES,
    "files.delete": _FILES,
    "files.retrieve_content": _PROCESSED,
    "files.wait_for_processing": _PROCESSED,
    "fine_tuning.jobs.create": _TRAINED,
    "fine_tuning.jobs.retrieve": _TRAINED,
    "fine_tuning.jobs.list": _TRAINED,
    "fine_tuning.jobs.list_events": _MEASURED,
    "fine_tuning.jobs.checkpoints.list": _MEASURED,
    "fine_tuning.jobs.pause": _PAUSED,
    "fine_tuning.jobs.resume": _PAUSED,
    "fine_tuning.jobs.cancel": _PAUSED,
    "vector_stores.create": _STORE,
    "vector_stores.update": _STORE,
    "vector_stores.retrieve": _STORE,
    "vector_stores.list": _STORE,
    "vector_stores.delete": _STORE,
    "vector_stores.search": _STORED,
    "vector_stores.files.upload_and_poll": _STORED,
    "vector_stores.files.update": _STORED,
    "vector_stores.files.content": _STORED,
    "vector_stores.files.delete": _STORED,
    "vector_stores.files.list": _STORED,
    "vector_stores.files.create": _WAITING,
    "vector_stores.files.create_and_poll": _WAITING,
    "vector_stores.files.poll": _WAITING,
    "vector_stores.files.retrieve": _WAITING,
    "vector_stores.files.upload": _WAITING,
    "vector_stores.file_batches.upload_and_poll": _STORED,
    "vector_stores.file_batches.list_files": _STORED,
    "vector_stores.file_batches.create": _TOGETHER,
    "vector_stores.file_batches.create_and_poll": _TOGETHER,
    "vector_stores.file_batches.poll": _TOGETHER,
    "vector_stores.file_batches.retrieve": _TOGETHER,
    "vector_stores.file_batches.cancel": f"{_LIBRARY}::test_what_of_a_batch_is_not_searchable_yet_is_taken_out_again",
    "responses.create": f"{_RESPONSES}::test_an_answer_comes_from_files_and_its_annotations_resolve_to_characters",
    "responses.stream": f"{_RESPONSES}::test_a_streamed_answer_has_the_events_in_their_order_and_ends_with_the_whole",
    "responses.parse": f"{_RESPONSES}::test_parse_gives_what_the_schema_says",
    "responses.retrieve": _KEPT,
    "responses.delete": _KEPT,
    "responses.cancel": _KEPT,
    "responses.input_items.list": _KEPT,
    "responses.input_tokens.count": _KEPT,
    "batches.create": _BATCH,
    "batches.retrieve": _BATCH,
    "batches.cancel": f"{_BATCHES}::test_a_running_batch_is_cancelled",
    "batches.list": f"{_BATCHES}::test_pages_go_on_by_themselves",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A method that is not served: how it is called, the number of the refusal, and a word of what it says to use instead."""

    call: Callable[[openai.OpenAI], Any]
    status: int
    word: str


_STORES_ITS_ANSWERS = "POST /v1/responses stores"
_GRADER: Any = {"type": "string_check", "name": "g", "input": "x", "reference": "x", "operation": "eq"}
REFUSED = {
    "chat.completions.list": Refusal(lambda it: it.chat.completions.list(), 405, _STORES_ITS_ANSWERS),
    "chat.completions.retrieve": Refusal(lambda it: it.chat.completions.retrieve("c"), 404, _STORES_ITS_ANSWERS),
    "chat.completions.update": Refusal(
        lambda it: it.chat.completions.update("c", metadata={}), 404, _STORES_ITS_ANSWERS
    ),
    "chat.completions.delete": Refusal(lambda it: it.chat.completions.delete("c"), 404, _STORES_ITS_ANSWERS),
    "chat.completions.messages.list": Refusal(
        lambda it: it.chat.completions.messages.list("c"), 404, _STORES_ITS_ANSWERS
    ),
    "fine_tuning.alpha.graders.run": Refusal(
        lambda it: it.fine_tuning.alpha.graders.run(grader=_GRADER, model_sample="x"), 404, "supervised or dpo"
    ),
    "fine_tuning.alpha.graders.validate": Refusal(
        lambda it: it.fine_tuning.alpha.graders.validate(grader=_GRADER), 404, "supervised or dpo"
    ),
    "fine_tuning.checkpoints.permissions.create": Refusal(
        lambda it: it.fine_tuning.checkpoints.permissions.create("c", project_ids=["p"]), 404, "its tenant's alone"
    ),
    "fine_tuning.checkpoints.permissions.list": Refusal(
        lambda it: it.fine_tuning.checkpoints.permissions.list("c"), 404, "its tenant's alone"
    ),
    "fine_tuning.checkpoints.permissions.retrieve": Refusal(
        lambda it: it.fine_tuning.checkpoints.permissions.retrieve("c"), 404, "its tenant's alone"
    ),
    "fine_tuning.checkpoints.permissions.delete": Refusal(
        lambda it: it.fine_tuning.checkpoints.permissions.delete("p", fine_tuned_model_checkpoint="c"),
        404,
        "its tenant's alone",
    ),
    "responses.compact": Refusal(lambda it: it.responses.compact(model="base"), 405, "previous_response_id"),
    "responses.connect": Refusal(lambda it: it.responses.connect().enter(), 405, "stream: true"),
}
