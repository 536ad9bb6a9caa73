"""OpenAI's request for a fine-tuning job as far as it is honoured, with what Trivium adds to it."""

from typing import Annotated, Any, Literal

from google.protobuf import json_format
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from trivium.gateway.v1 import fine_tuning_pb2
from trivium.trainer.v1 import training_pb2

from gateway.http.parsing import Strict
from services.chassis.errors import Failure, Reason

_Text = Annotated[str, Field(strict=True)]
# What the fields of the call hold; their bounds are the call's own to check.
_Count = Annotated[int, Field(strict=True, ge=-(1 << 31), lt=1 << 31)]
_Seed = Annotated[int, Field(strict=True, ge=-(1 << 63), lt=1 << 63)]
_Number = Annotated[float, Field(strict=True)]
_AUTO = BeforeValidator(lambda value: None if value == "auto" else value)
_SERVED = ("supervised", "dpo")


def _served(value: object) -> object:
    """The name of a method as it is, if it is a served one's; OpenAI has more of them."""
    if isinstance(value, str) and value not in _SERVED:
        said = {"name": value[:64], "served": " and ".join(_SERVED)}
        raise PydanticCustomError("method", "the method {name} is not served; {served} are", said)
    return value


class Hyperparameters(Strict):
    """What methods take; ``auto`` and null leave the choice to the trainer."""

    n_epochs: Annotated[_Count | None, _AUTO] = None
    batch_size: Annotated[_Count | None, _AUTO] = None
    learning_rate_multiplier: Annotated[_Number | None, _AUTO] = None
    beta: Annotated[_Number | None, _AUTO] = None


class Chosen(Strict):
    """A method with its hyperparameters."""

    hyperparameters: Hyperparameters | None = None


class Method(Strict):
    """How a model is fine-tuned."""

    type: Annotated[Literal["supervised", "dpo"], BeforeValidator(_served)]
    supervised: Chosen | None = None
    dpo: Chosen | None = None


class Extension(Strict):
    """What Trivium adds: ``extra_body={"trivium": {"method": "full", "settings": {"max_row_tokens": 512}}}``."""

    method: Literal["lora", "rslora", "dora", "qlora", "full"] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    base: _Text = ""
    alias: _Text = ""
    request_id: _Text = ""


class CreateJob(Strict):
    """POST /v1/fine_tuning/jobs."""

    model: _Text
    training_file: _Text
    validation_file: _Text = ""
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: _Text = ""
    seed: _Seed | None = None
    metadata: dict[str, _Text] = Field(default_factory=dict)
    integrations: list[Any] = Field(default_factory=list)
    trivium: Extension = Extension()

    @property
    def sent(self) -> dict[str, str]:
        """Where this request wrote the hyperparameters: errors are told by it."""
        within = f"method.{self.method.type}.hyperparameters" if self.method else "hyperparameters"
        return {f"hyperparameters.{name}": f"{within}.{name}" for name in Hyperparameters.model_fields}


def to_request(body: CreateJob) -> fine_tuning_pb2.CreateFineTuningJobRequest:
    """The call's request.  Raises FIELD_INVALID, PARAMETER_UNSUPPORTED."""
    if body.integrations:
        raise Failure(
            Reason.PARAMETER_UNSUPPORTED,
            field="integrations",
            why=" here: a job's events and its result file have what was measured",
        )
    if body.method is not None and body.hyperparameters is not None:
        problem = "the method has its own: write them into method"
        raise Failure(Reason.FIELD_INVALID, field="hyperparameters", problem=problem)
    method = body.method or Method(type="supervised")
    return fine_tuning_pb2.CreateFineTuningJobRequest(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        method=fine_tuning_pb2.FineTuningMethod.Value(f"FINE_TUNING_METHOD_{method.type.upper()}"),
        hyperparameters=_hyperparameters(body.hyperparameters or _of(method)),
        suffix=body.suffix,
        seed=body.seed,
        metadata=body.metadata,
        settings=_settings(body.trivium),
        base=body.trivium.base,
        alias=body.trivium.alias,
        request_id=body.trivium.request_id,
    )


def _of(method: Method) -> Hyperparameters:
    """The hyperparameters of the method that was chosen.  Raises FIELD_INVALID where those of another stand beside it."""
    other = "dpo" if method.type == "supervised" else "supervised"
    if getattr(method, other) is not None:
        problem = f"the type is {method.type}: leave {other} out"
        raise Failure(Reason.FIELD_INVALID, field=f"method.{other}", problem=problem)
    chosen = method.supervised if method.type == "supervised" else method.dpo
    return (chosen and chosen.hyperparameters) or Hyperparameters()


def _hyperparameters(given: Hyperparameters) -> fine_tuning_pb2.FineTuningHyperparameters:
    chosen = {name: value for name, value in given if value is not None}
    return fine_tuning_pb2.FineTuningHyperparameters(**chosen)


def _settings(extension: Extension) -> training_pb2.TrainingSettings:
    """The trainer's settings by their names in its contract.  Raises FIELD_INVALID for one that it does not have."""
    settings = training_pb2.TrainingSettings()
    try:
        json_format.ParseDict(extension.settings, settings)
    except (json_format.ParseError, TypeError, ValueError) as error:
        problem = f"{error}; they are those of the trainer's TrainingSettings (trivium train settings lists them)"
        raise Failure(Reason.FIELD_INVALID, field="trivium.settings", problem=problem) from None
    if extension.method is not None:
        if settings.method:
            problem = "the method stands in trivium.method already: leave one of the two out"
            raise Failure(Reason.FIELD_INVALID, field="trivium.settings.method", problem=problem)
        settings.method = training_pb2.Method.Value(f"METHOD_{extension.method.upper()}")
    return settings
