"""Settings of jobs as requests make them."""

from typing import Any

import protovalidate
from trivium.trainer.v1 import training_pb2

from services.trainer import wire_settings
from services.trainer.settings import Settings


def as_ordered(**fields: Any) -> Settings:
    """What the API makes of a request with these fields; it must take them."""
    given = training_pb2.TrainingSettings(**fields)
    protovalidate.validate(given)
    return wire_settings.settings(given, hidden_size=32, model_type="llama")
