"""Every test that uses the stack runs in both worlds."""

from tests.worlds import stack

__all__ = ["stack"]
