"""Fixtures of the suites that run over every leaf."""

from tests.conformance.replicas import site

__all__ = ["site"]
