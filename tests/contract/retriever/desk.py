"""Somebody at a desk: the SDK, the command line, a collection."""

import os
import pty
import subprocess
import sys
import uuid

from trivium_client import Trivium

from tests.harness.command_line import run_in_process
from tests.library import Library

COMMAND = [sys.executable, "-c", "from trivium_client.cli import main; main()"]


class Desk:
    """Somebody with the SDK, the command line and a collection."""

    def __init__(self, library: Library):
        self.key = library.stack.tenant_key(library.stack.tenant())
        self.addresses = {"retriever": library.process.address}
        self.collection = f"c-{uuid.uuid4().hex[:8]}"
        self.client = Trivium(api_key=self.key, addresses=self.addresses)

    def bring(self, folder, **options):
        report = self.client.docs.add_folder(folder, collection=self.collection, **options)
        self.settle()
        return report

    def settle(self):
        if any(item.collection == self.collection for item in self.client.collections.list()):
            for _ in self.client.docs.watch(self.collection):
                pass

    def documents(self):
        return {item.document: item for item in self.client.docs.list(self.collection)}

    def command(self, *arguments):
        return [*COMMAND, "docs", "add", *map(str, arguments), "-c", self.collection], self.environment

    @property
    def environment(self):
        mine = {"TRIVIUM_API_KEY": self.key, "TRIVIUM_RETRIEVER_ADDRESS": self.addresses["retriever"]}
        return {**os.environ, **mine}

    def docs(self, *arguments, answer=""):
        """Any other of the commands about documents; with an answer, somebody types it at a terminal."""
        return _ran([*COMMAND, "docs", *arguments], self.environment, answer)

    def models(self, registry, *arguments, answer="", **environment):
        """`trivium models ...` over the registry at an address."""
        known = {**self.environment, "TRIVIUM_REGISTRY_ADDRESS": registry, **environment}
        return _ran([*COMMAND, "models", *arguments], known, answer)

    def run(self, *arguments, answer=""):
        command, environment = self.command(*arguments)
        return _ran(command, environment, answer)


def ran_in_process(*arguments, environment):
    """A command in this process, which saves the half second that its imports take; nothing is its terminal."""
    ran = run_in_process(*map(str, arguments), environment=environment)
    return subprocess.CompletedProcess(arguments, ran.code, ran.out, ran.err)


def _ran(command, environment, answer):
    if not answer:
        return ran_in_process(*command[len(COMMAND) :], environment=environment)
    typing, terminal = pty.openpty()
    try:
        # A terminal keeps what is typed until somebody reads.
        os.write(typing, answer.encode())
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, stdin=terminal)
    finally:
        os.close(typing)
        os.close(terminal)
