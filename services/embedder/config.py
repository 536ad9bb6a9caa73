"""Settings of the embedder."""

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from services.chassis.config import ServiceSettings, environment
from services.chassis.models import DEFAULT_EMBEDDING


class Precision(StrEnum):
    """What the model computes in; ``AUTO`` takes bfloat16 only where the processor has it and it is faster."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class EngineKind(StrEnum):
    """What computes.  OpenVINO, which is faster on Intel's processors, comes with the extra of that name."""

    TORCH = "torch"
    OPENVINO = "openvino"


class Device(StrEnum):
    """Where torch computes."""

    CPU = "cpu"
    CUDA = "cuda"


class ModelSetting(BaseModel):
    """One further model; a mere string is its ``uri``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # wheel:, file: or hf:, as services.chassis.models reads them.
    uri: str = Field(min_length=1)
    # What callers name it by; empty takes the folder's name.
    name: str = Field(default="", max_length=128)
    precision: Precision = Precision.AUTO
    query_prefix: str = ""
    document_prefix: str = ""
    # Tokens beyond which texts are cut; 0 takes what the model was trained at.
    max_tokens: int = Field(default=0, ge=0)
    shortens: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        return {"uri": given} if isinstance(given, str) else given


class EmbedderSettings(ServiceSettings):
    """What the embedder needs beside what every service has."""

    service: ClassVar[str] = "embedder"
    model_config = environment("embedder")

    model: str = Field(default=DEFAULT_EMBEDDING, validation_alias=AliasChoices("TRIVIUM_EMBEDDING_MODEL"))
    precision: Precision = Precision.AUTO
    # Texts before which the model wants to be told what they are for; all-MiniLM-L6-v2 wants nothing.
    query_prefix: str = ""
    document_prefix: str = ""
    # Whether the model was trained so that the first dimensions alone are a vector (matryoshka).
    shortens: bool = False
    # Models beside the default, as JSON; each is loaded when somebody first names it.
    models: tuple[ModelSetting, ...] = ()
    # Cross-encoders that Rerank may name, as JSON; loaded when somebody does.
    rerankers: tuple[ModelSetting, ...] = ()
    engine: EngineKind = EngineKind.TORCH
    # On a GPU models compute in half precision, and a batch is larger.
    device: Device = Device.CPU
    # 0 takes the embedder's share of the machine.
    threads: int = Field(default=0, ge=0)
    # Tokens of one batch, with padding where a model pads; 0 tries which is fastest, once for each model and machine.
    # On a processor larger is soon slower: the activations leave the cache.
    batch_tokens: int = Field(default=0, ge=0)
    # The same that may wait before one model; beyond, unary calls are refused and streams wait.
    queue_tokens: int = Field(default=1_000_000, ge=1)
    # Bytes on disk of vectors that were computed, so that they need not be again; the oldest used go first.  0 keeps none.
    cache_bytes: int = Field(default=1024**3, ge=0)
    # Encoders and rerankers of tenants' own, out of the registry, that are in memory at once, over all tenants; 0 serves
    # none.  Beyond, the longest unused goes of the tenant that has most, and where all are in use the next waits.  Without
    # TRIVIUM_REGISTRY_ADDRESS in the environment there is no registry to have them from.
    tenant_models: int = Field(default=8, ge=0)
    # What their files may have together, in GiB; a model's memory is about that.
    tenant_models_gib: float = Field(default=4.0, gt=0)
    # How long the registry's word on one is believed: deleted there, it is served no longer than that.
    tenant_models_believed_seconds: float = Field(default=5.0, gt=0, le=60)
    # Requests of one stream that are worked on at once, so that the engine never waits for the wire.
    stream_ahead: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _engine_has_the_device(self) -> Self:
        if self.engine is EngineKind.OPENVINO and self.device is not Device.CPU:
            raise ValueError(
                "OpenVINO computes on the processor here: leave the device at cpu, or take the engine torch"
            )
        return self

    @property
    def has_registry(self) -> bool:
        """Whether the registry's address was set, rather than left at what it would be on one machine."""
        return "registry_address" in self.model_fields_set

    def default_model(self) -> ModelSetting:
        """The model that an empty name means."""
        return ModelSetting(
            uri=self.model,
            precision=self.precision,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
            shortens=self.shortens,
        )
