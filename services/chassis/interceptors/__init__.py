"""The one ordered list of what happens around every call, with the reason for each place."""

from dataclasses import dataclass

from services.chassis.auditing.trail import Trail
from services.chassis.config import ServiceSettings
from services.chassis.credentials import Authenticator
from services.chassis.interceptors.admission import AdmissionLayer
from services.chassis.interceptors.audit import AuditLayer
from services.chassis.interceptors.auth import AuthLayer
from services.chassis.interceptors.call import Layer
from services.chassis.interceptors.context import ContextLayer
from services.chassis.interceptors.deadline import DeadlineLayer
from services.chassis.interceptors.errors import ErrorsLayer
from services.chassis.interceptors.telemetry import TelemetryLayer
from services.chassis.interceptors.validation import ValidationLayer
from services.chassis.logs import Log
from services.chassis.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers by name (for those who steer them) and in order (for the dispatcher)."""

    auth: AuthLayer
    admission: AdmissionLayer
    validation: ValidationLayer
    ordered: tuple[Layer, ...]
    # Inside all of them, and around the methods alone whose changes are recorded: a read does not know of it.
    recording: Layer


def layers(
    settings: ServiceSettings, telemetry: Telemetry, log: Log, authenticator: Authenticator, trail: Trail
) -> Layers:
    """Build the list.  Outermost first; the handler comes after the last."""
    auth = AuthLayer(authenticator)
    admission = AdmissionLayer(settings)
    validation = ValidationLayer(settings)
    telemetry.calls_in_flight.set_function(lambda: admission.in_flight)
    return Layers(
        auth=auth,
        admission=admission,
        validation=validation,
        ordered=(
            ContextLayer(settings),  # first: every later layer names the call by these ids
            TelemetryLayer(settings, telemetry, log),  # outside errors: sees the status that the caller gets
            ErrorsLayer(log),  # outside all that refuses: one place maps and masks
            admission.at_the_door,  # before auth: a full server asks nobody who its caller is
            auth,  # before admission: permits are counted by tenant
            admission,  # before parsing: an overloaded server allocates nothing
            DeadlineLayer(),  # inside admission: a refused call needs no timer
            validation,  # last: only an authorised, admitted, timely call is parsed
        ),
        recording=AuditLayer(trail),
    )
