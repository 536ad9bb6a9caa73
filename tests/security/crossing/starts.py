"""What a request must hold before anything in it is looked up, where that is more than names.

Everything that is generated is one token long.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from tests.security.crossing.surface import Rpc

_ONE_TOKEN = {"sampling": {"maxTokens": 1}}
_SAID = {"messages": [{"role": "CHAT_ROLE_USER", "content": "Hello"}]}
_STARTS: Mapping[str, Mapping[str, Any]] = {
    "access.v1.AccessService/CreateKey": {"roles": ["ROLE_MEMBER"]},
    "embedder.v1.EmbedderService/Embed": {"texts": ["ferry"]},
    "embedder.v1.EmbedderService/EmbedStream": {"request": {"texts": ["ferry"]}},
    "embedder.v1.EmbedderService/CountTokens": {"texts": ["ferry"]},
    "embedder.v1.EmbedderService/Rerank": {"query": "ferry", "passages": ["boat"]},
    "files.v1.BatchService/CreateBatch": {"endpoint": "BATCH_ENDPOINT_CHAT_COMPLETIONS"},
    "files.v1.FileService/CreateFile": {"header": {"filename": "mine.md", "purpose": "PURPOSE_ASSISTANTS"}},
    "gateway.v1.FileService/CreateFile": {"header": {"filename": "mine.md", "purpose": "PURPOSE_ASSISTANTS"}},
    "gateway.v1.BatchService/CreateBatch": {"endpoint": "BATCH_ENDPOINT_CHAT_COMPLETIONS"},
    "gateway.v1.EmbeddingService/CreateEmbeddings": {"request": {"texts": ["ferry"]}},
    "gateway.v1.GatewayService/Ask": {"question": "Hello?", **_ONE_TOKEN},
    "gateway.v1.GatewayService/Chat": {**_SAID, **_ONE_TOKEN},
    "gateway.v1.GatewayService/Complete": {"prompt": "Hello", **_ONE_TOKEN},
    "gateway.v1.ReplayService/ReplayAnswer": {"chat": {**_SAID, **_ONE_TOKEN}},
    "gateway.v1.ResponseService/CreateResponse": {
        "settings": {"sampling": {"maxTokens": 16}},
        "input": [{"message": {"role": "CHAT_ROLE_USER", "parts": ["Hello"]}}],
    },
    "gateway.v1.ResponseService/CountResponseInputTokens": {
        "input": [{"message": {"role": "CHAT_ROLE_USER", "parts": ["Hello"]}}],
    },
    "gateway.v1.VectorStoreService/SearchVectorStore": {"queries": ["ferry"]},
    "generator.v1.GeneratorService/Generate": {"text": "Hello", **_ONE_TOKEN},
    "generator.v1.GeneratorService/Tokenize": {"text": "Hello"},
    "registry.v1.RegistryService/CreateGate": {"gate": {"gate": "exactly", "metric": "exact", "requiredValue": 0.5}},
    "registry.v1.RegistryService/CreateVersion": {
        "version": {"kind": "VERSION_KIND_LORA", "files": [{"filename": "adapter_config.json", "sha256": "0" * 64}]}
    },
    "registry.v1.RegistryService/ImportModel": {"uri": "file:/nowhere"},
    "registry.v1.RegistryService/RecordEvaluation": {"evaluation": {"metric": "exact", "value": 1.0}},
    "retriever.v1.RetrieverService/IngestSource": {"uri": "https://nowhere.invalid/"},
    "retriever.v1.RetrieverService/Search": {"queries": ["ferry"]},
    "retriever.v1.RetrieverService/Tune": {
        "pairs": [{"question": f"ferry {place}", "documents": ["ferry.md"]} for place in range(10)]
    },
    "trainer.v1.TrainingService/CreateSweep": {"members": [{"maxSteps": 1}, {"maxSteps": 2}]},
    "trainer.v1.TrainingService/EstimateSweep": {"sweep": {"members": [{"maxSteps": 1}, {"maxSteps": 2}]}},
    "trainer.v1.TrainingService/FillRecipe": {"recipe": "answer-from-context"},
}


def start(rpc: Rpc) -> Message:
    """A new request, with what it must have beside names."""
    return ParseDict(dict(_STARTS.get(rpc.path.removeprefix("/trivium."), {})), rpc.request())
