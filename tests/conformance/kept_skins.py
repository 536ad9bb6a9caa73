"""Files, batches, embeddings and responses at both doors, behind one face: a verb with its fields in.

What comes out is in OpenAI's words, with what is drawn anew each time (ids that are made, moments) left out.
"""

import base64
import struct
from typing import Any

import grpc
from trivium.common.v1 import chat_pb2, transfer_pb2
from trivium.embedder.v1 import embedder_pb2
from trivium.files.v1 import batch_pb2, file_pb2
from trivium.gateway.v1 import (
    batches_pb2,
    batches_pb2_grpc,
    embeddings_pb2,
    embeddings_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    responses_pb2,
    responses_pb2_grpc,
)

from tests.adapters import digest
from tests.conformance import found
from tests.conformance.verbs import GrpcVerbs, HttpVerbs, Told
from tests.stack import Api

_PURPOSES = {"batch": file_pb2.PURPOSE_BATCH, "user_data": file_pb2.PURPOSE_USER_DATA}
_WORDS = {number: word for word, number in _PURPOSES.items()}
_ENDPOINTS = {"/v1/completions": batch_pb2.BATCH_ENDPOINT_COMPLETIONS}
_ITEMS = {1: "in_progress", 2: "completed", 3: "incomplete"}


class GrpcSkin(GrpcVerbs):
    """``trivium.gateway.v1``."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._files = Api(files_pb2_grpc.FileServiceStub(channel), key)
        self._batches = Api(batches_pb2_grpc.BatchServiceStub(channel), key)
        self._embeddings = Api(embeddings_pb2_grpc.EmbeddingServiceStub(channel), key)
        self._responses = Api(responses_pb2_grpc.ResponseServiceStub(channel), key)

    def upload(self, content: bytes, filename: str, purpose: str) -> Told:
        """A file that is stored."""
        header = file_pb2.FileHeader(filename=filename, purpose=_PURPOSES[purpose])
        chunks = [files_pb2.CreateFileRequest(chunk=transfer_pb2.Chunk(data=content))] if content else []
        end = file_pb2.FileEnd(size_bytes=len(content), sha256=digest(content))
        parts = [files_pb2.CreateFileRequest(header=header), *chunks, files_pb2.CreateFileRequest(end=end)]
        return _file(self._files.CreateFile(iter(parts)).file)[1:]

    def file(self, file: str) -> Told:
        """What it is."""
        return _file(self._files.GetFile(files_pb2.GetFileRequest(file=file)).file)

    def files(self, **page: Any) -> Told:
        """A page of ids."""
        number: Any = _PURPOSES.get(page.get("purpose", ""), 0)
        request = files_pb2.ListFilesRequest(
            purpose=number, page_size=page.get("limit", 0), after=page.get("after", "")
        )
        answer = self._files.ListFiles(request)
        return [it.file for it in answer.files], answer.has_more

    def content(self, file: str) -> Told:
        """Its bytes."""
        return b"".join(it.chunk.data for it in self._files.ReadFile(files_pb2.ReadFileRequest(file=file)))

    def delete_file(self, file: str) -> Told:
        """Whether it is gone."""
        return self._files.DeleteFile(files_pb2.DeleteFileRequest(file=file)) is not None

    def batch(self, file: str, **more: Any) -> Told:
        """A batch that is begun."""
        request = batches_pb2.CreateBatchRequest(input_file=file, endpoint=_ENDPOINTS["/v1/completions"], **more)
        return _batch(self._batches.CreateBatch(request).batch)

    def get_batch(self, batch: str) -> Told:
        """What it is."""
        return _batch(self._batches.GetBatch(batches_pb2.GetBatchRequest(batch=batch)).batch)

    def cancel_batch(self, batch: str) -> Told:
        """The same, as it ends."""
        return _batch(self._batches.CancelBatch(batches_pb2.CancelBatchRequest(batch=batch)).batch)

    def embed(self, texts: list[str], model: str, dimensions: int = 0) -> Told:
        """Vectors, and what they cost."""
        wanted = embedder_pb2.EmbedRequest(texts=texts, model=model, dimensions=dimensions)
        answer = self._embeddings.CreateEmbeddings(embeddings_pb2.CreateEmbeddingsRequest(request=wanted))
        rows, width = answer.embeddings.shape
        numbers = struct.unpack(f"<{rows * width}f", answer.embeddings.data)
        return [numbers[row * width : (row + 1) * width] for row in range(rows)], sum(answer.token_counts)

    def respond(self, text: str, **more: Any) -> Told:
        """The items of an answer, and what it cost."""
        turn = responses_pb2.ResponseMessage(role=chat_pb2.CHAT_ROLE_USER, parts=[text])
        sampling = chat_pb2.Sampling(max_tokens=more.pop("most_tokens", 2))
        settings = responses_pb2.ResponseSettings(model=more.get("model", "base"), store=False, sampling=sampling)
        settings.previous_response = more.get("previous", "")
        if more.get("store"):
            settings.file_search.vector_stores.append(more["store"])
        if more.get("function"):
            settings.tool_use.tools.add(name=more["function"])
        settings.MergeFrom(found.settings(more.get("manner", {})))
        request = responses_pb2.CreateResponseRequest(
            settings=settings, input=[responses_pb2.ResponseItem(message=turn)], include_results=True
        )
        *_, last = self._responses.CreateResponse(request)
        return _response(last.completed if last.HasField("completed") else last.incomplete)

    def input_tokens(self, text: str, **more: Any) -> Told:
        """How long the prompt would be, and the window that it shares."""
        turn = responses_pb2.ResponseMessage(role=chat_pb2.CHAT_ROLE_USER, parts=[text])
        settings = responses_pb2.ResponseSettings(model=more.get("model", "base"))
        settings.previous_response = more.get("previous", "")
        if more.get("store"):
            settings.file_search.vector_stores.append(more["store"])
        request = responses_pb2.CountResponseInputTokensRequest(
            settings=settings, input=[responses_pb2.ResponseItem(message=turn)]
        )
        answer = self._responses.CountResponseInputTokens(request)
        return answer.input_tokens, answer.context_tokens

    def response(self, response: str) -> Told:
        """A stored one."""
        request = responses_pb2.GetResponseRequest(response=response, include_results=True)
        return _response(self._responses.GetResponse(request).response)

    def input_items(self, response: str, limit: int = 0) -> Told:
        """What it was asked."""
        request = responses_pb2.ListResponseInputItemsRequest(response=response, limit=limit)
        answer = self._responses.ListResponseInputItems(request)
        return [_item(it) for it in answer.items], answer.has_more

    def batches(self, limit: int) -> Told:
        """A page of ids."""
        answer = self._batches.ListBatches(batches_pb2.ListBatchesRequest(page_size=limit))
        return [it.batch for it in answer.batches], answer.has_more

    def delete_response(self, response: str) -> Told:
        """Whether it is gone."""
        return self._responses.DeleteResponse(responses_pb2.DeleteResponseRequest(response=response)) is not None

    def cancel_response(self, response: str) -> Told:
        """Never."""
        return self._responses.CancelResponse(responses_pb2.CancelResponseRequest(response=response))


def _file(it: file_pb2.File) -> Told:
    return it.file, it.filename, _WORDS[it.purpose], it.size_bytes


def _batch(it: batch_pb2.Batch) -> Told:
    endpoint = {number: path for path, number in _ENDPOINTS.items()}[it.endpoint]
    return it.input_file, endpoint, dict(it.metadata), it.completion_window_seconds


def _item(it: responses_pb2.ResponseItem) -> Told:
    status = _ITEMS[it.status]
    if it.WhichOneof("kind") == "file_search_call":
        hits = [(hit.file, hit.filename, hit.text) for hit in it.file_search_call.results]
        return "file_search_call", status, list(it.file_search_call.queries), hits
    if it.WhichOneof("kind") == "function_call":
        return "function_call", status, it.function_call.name, it.function_call.arguments
    return "message", status, "".join(it.message.parts), len(it.message.citations)


def _response(it: responses_pb2.Response) -> Told:
    usage = it.usage.prompt_tokens, it.usage.completion_tokens
    return (
        [_item(item) for item in it.output],
        usage,
        it.status == responses_pb2.RESPONSE_STATUS_COMPLETED,
        found.of_message(it),
    )


class HttpSkin(HttpVerbs):
    """OpenAI's shapes."""

    def upload(self, content: bytes, filename: str, purpose: str) -> Told:
        """As its twin."""
        form = {"files": {"file": (filename, content)}, "data": {"purpose": purpose}}
        return self._file(self.sent("POST", "/files", **form).json())[1:]

    def file(self, file: str) -> Told:
        """As its twin."""
        return self._file(self.sent("GET", f"/files/{file}").json())

    def files(self, **page: Any) -> Told:
        """As its twin."""
        answer = self.sent("GET", "/files", params=page).json()
        return [it["id"] for it in answer["data"]], answer["has_more"]

    def content(self, file: str) -> Told:
        """As its twin."""
        return self.sent("GET", f"/files/{file}/content").content

    def delete_file(self, file: str) -> Told:
        """As its twin."""
        return self.sent("DELETE", f"/files/{file}").json()["deleted"]

    def batch(self, file: str, **more: Any) -> Told:
        """As its twin."""
        order = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h", **more}
        return self._batch(self.sent("POST", "/batches", json=order).json())

    def get_batch(self, batch: str) -> Told:
        """As its twin."""
        return self._batch(self.sent("GET", f"/batches/{batch}").json())

    def cancel_batch(self, batch: str) -> Told:
        """As its twin."""
        return self._batch(self.sent("POST", f"/batches/{batch}/cancel").json())

    def embed(self, texts: list[str], model: str, dimensions: int = 0) -> Told:
        """As its twin."""
        short = {"dimensions": dimensions} if dimensions else {}
        body = {"model": model, "input": texts, "encoding_format": "base64", **short}
        answer = self.sent("POST", "/embeddings", json=body).json()
        raw = [base64.b64decode(it["embedding"]) for it in answer["data"]]
        return [struct.unpack(f"<{len(it) // 4}f", it) for it in raw], answer["usage"]["prompt_tokens"]

    def respond(self, text: str, **more: Any) -> Told:
        """As its twin."""
        tools: list[dict[str, Any]] = []
        if more.get("store"):
            tools.append({"type": "file_search", "vector_store_ids": [more["store"]]})
        if more.get("function"):
            tools.append({"type": "function", "name": more["function"]})
        body = {
            "model": more.get("model", "base"),
            "input": text,
            "store": False,
            "max_output_tokens": more.get("most_tokens", 2),
            "tools": tools,
            "previous_response_id": more.get("previous"),
            "include": ["file_search_call.results"],
            "trivium": more.get("manner", {}),
        }
        return self._response(self.sent("POST", "/responses", json=body).json())

    def input_tokens(self, text: str, **more: Any) -> Told:
        """As its twin."""
        body: dict[str, Any] = {"model": more.get("model", "base"), "input": text}
        body["previous_response_id"] = more.get("previous")
        if more.get("store"):
            body["tools"] = [{"type": "file_search", "vector_store_ids": [more["store"]]}]
        answer = self.sent("POST", "/responses/input_tokens", json=body).json()
        return answer["input_tokens"], answer["trivium"]["context_tokens"]

    def response(self, response: str) -> Told:
        """As its twin."""
        wanted = {"include[]": "file_search_call.results"}
        return self._response(self.sent("GET", f"/responses/{response}", params=wanted).json())

    def input_items(self, response: str, limit: int = 0) -> Told:
        """As its twin."""
        page = {"limit": limit} if limit else {}
        answer = self.sent("GET", f"/responses/{response}/input_items", params=page).json()
        return [self._item(it) for it in answer["data"]], answer["has_more"]

    def batches(self, limit: int) -> Told:
        """As its twin."""
        answer = self.sent("GET", "/batches", params={"limit": limit}).json()
        return [it["id"] for it in answer["data"]], answer["has_more"]

    def delete_response(self, response: str) -> Told:
        """As its twin."""
        return self.sent("DELETE", f"/responses/{response}").json()["deleted"]

    def cancel_response(self, response: str) -> Told:
        """As its twin."""
        return self.sent("POST", f"/responses/{response}/cancel").json()

    def _file(self, it: dict[str, Any]) -> Told:
        return it["id"], it["filename"], it["purpose"], it["bytes"]

    def _batch(self, it: dict[str, Any]) -> Told:
        window = {"24h": 24 * 3600}[it["completion_window"]]
        return it["input_file_id"], it["endpoint"], it["metadata"] or {}, window

    def _item(self, it: dict[str, Any]) -> Told:
        if it["type"] == "file_search_call":
            hits = [(hit["file_id"], hit["filename"], hit["text"]) for hit in it["results"] or ()]
            return it["type"], it["status"], it["queries"], hits
        if it["type"] == "function_call":
            return it["type"], it["status"], it["name"], it["arguments"]
        text = "".join(part["text"] for part in it["content"])
        return it["type"], it["status"], text, sum(len(part.get("annotations", ())) for part in it["content"])

    def _response(self, it: dict[str, Any]) -> Told:
        usage = it["usage"]["input_tokens"], it["usage"]["output_tokens"]
        return (
            [self._item(item) for item in it["output"]],
            usage,
            it["status"] == "completed",
            found.of_json(it["trivium"]),
        )
