"""Fixtures of the suites that run over every leaf."""

from tests.conformance.replicas import empty_registry, site

__all__ = ["empty_registry", "site"]
