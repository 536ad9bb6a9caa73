"""The stock of the gateway's tests, for the tests with OpenAI's own client."""

from tests.integration.gateway.conftest import adapter, collection

__all__ = ["adapter", "collection"]
