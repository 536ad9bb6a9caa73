"""The command line `trivium`: noun then verb, tables for people, `--json` for programs.

Commands of an application that is installed beside the client (`trivium up` and its like)
join through the entry point group `trivium.cli`.
"""

from trivium_client.cli.main import app, main

__all__ = ["app", "main"]
