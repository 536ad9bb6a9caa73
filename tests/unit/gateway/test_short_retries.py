"""What a client waits for, before an answer and in its middle, is known to be away within a second: its retries are short."""

import json

import pytest

from services.chassis.channels import channel_options, service_config
from services.chassis.config import ServiceSettings

# gRPC draws each pause from a fifth around what it is told.
JITTER = 0.2
UNDER_WAY = [
    ("access.v1.QuotaService", "LeaseAllowances"),
    ("access.v1.UsageService", "RecordUsages"),
    ("access.v1.AccessService", "GetSigningKeys"),
    ("embedder.v1.EmbedderService", "Embed"),
    ("retriever.v1.RetrieverService", "Search"),
    ("retriever.v1.RetrieverService", "GetDocument"),
    ("generator.v1.GeneratorService", "Generate"),
    ("generator.v1.GeneratorService", "Tokenize"),
    ("trainer.v1.TrainingService", "GetJob"),
    ("files.v1.ResponseService", "PutResponse"),
    ("files.v1.FileService", "ReadFile"),
]
# Whoever calls them while their peer starts anew waits for it.
FOUND_AGAIN = [(service, method) for service, method in UNDER_WAY if not service.startswith("access.")]
# What stands before the first word: one call fails, and none is made behind it.
BEFORE = [("registry.v1.RegistryService", "ResolveModel"), ("registry.v1.RegistryService", "ListCandidates")]
RESTART_SECONDS = 0.3


def pauses(service: str, method: str) -> list[float]:
    """The pauses between attempts, in seconds; of a peer that is not there each attempt takes no time."""
    policies = {
        (name["service"], name.get("method")): policy
        for policy in json.loads(service_config())["methodConfig"]
        for name in policy["name"]
    }
    whole = f"trivium.{service}"
    policy = policies.get((whole, method)) or policies[whole, None]
    retries = policy.get("retryPolicy")
    if retries is None:
        return []
    first, most = (float(retries[name].removesuffix("s")) for name in ("initialBackoff", "maxBackoff"))
    return [min(most, first * retries["backoffMultiplier"] ** at) for at in range(retries["maxAttempts"] - 1)]


@pytest.mark.parametrize(("service", "method"), UNDER_WAY)
def test_whether_a_peer_is_there_is_known_in_little_over_half_a_second(service: str, method: str) -> None:
    assert sum(pauses(service, method)) * (1 + JITTER) <= 0.6 + 1e-9


@pytest.mark.parametrize(("service", "method"), BEFORE)
def test_what_a_name_means_is_not_asked_for_longer_than_a_second_and_as_long_as_a_restart(
    service: str, method: str
) -> None:
    waited = sum(pauses(service, method))
    assert waited * (1 + JITTER) <= 0.85
    # A channel tries again once within the restart, and then at most so long after that.
    options = dict(channel_options(ServiceSettings()))
    first, again = (options[f"grpc.{name}_reconnect_backoff_ms"] / 1000 * (1 + JITTER) for name in ("initial", "max"))
    assert first < RESTART_SECONDS
    assert waited * (1 - JITTER) > first + again


def test_a_response_is_kept_although_access_is_away_within_a_second() -> None:
    """Its receipt is given up first, and the service of files looks which keys are revoked."""
    both = [*pauses("access.v1.UsageService", "RecordUsages"), *pauses("access.v1.AccessService", "GetSigningKeys")]
    assert sum(both) * (1 + JITTER) < 1


def test_a_peer_that_is_back_is_found_within_the_shortest_of_them() -> None:
    options = dict(channel_options(ServiceSettings()))
    again = options["grpc.max_reconnect_backoff_ms"] / 1000 * (1 + JITTER)
    for service, method in FOUND_AGAIN:
        assert sum(pauses(service, method)) * (1 - JITTER) > again
