"""Loads what the process of a solo job loads, and as it does: the libraries know how to behave before they are there."""

from importlib import import_module

from services.trainer.solo import libraries

libraries.prepare()
for _module in ("models", "ranks", "run"):
    import_module(f"services.trainer.solo.{_module}")
