"""A repository of the model hub, at one commit, into a folder: ``python -m services.chassis.hub``, a child of its own.

It takes one line of JSON, ``{"repository", "revision", "folder"}``, and answers with lines of JSON: first the commit
and the repository's files, ``{"commit", "files": [[name, bytes], …]}``; then it waits for a line that names the wanted
ones, ``{"wanted": [name, …]}``, fetches them (an interrupted file goes on where it was) and says ``{"fetched": name}``
of each.  Whatever goes wrong is ``{"problem": text}`` and exit status 1.

A child, so that the library's cache, its threads and what it imports stay out of the service, and so that a fetch
can be ended at any moment.  It acts under no token: what it can read, everybody can.
"""

import json
import os
import sys
from typing import Any, TextIO

_SWITCHED_ON = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")


def fetch(orders: TextIO, answers: TextIO) -> None:
    """Serve one order."""
    from huggingface_hub import HfApi, hf_hub_download

    order = json.loads(orders.readline())
    found = HfApi().model_info(
        order["repository"], revision=order["revision"] or None, files_metadata=True, token=False
    )
    files = [[item.rfilename, item.size or 0] for item in found.siblings or ()]
    _say(answers, {"commit": found.sha, "files": files})
    for name in json.loads(orders.readline())["wanted"]:
        hf_hub_download(order["repository"], name, revision=found.sha, local_dir=order["folder"], token=False)
        _say(answers, {"fetched": name})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def main() -> int:
    """Run :func:`fetch` over standard input and output."""
    os.environ.update(dict.fromkeys(_SWITCHED_ON, "1"))
    # The library may print; our lines keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        fetch(sys.stdin, answers)
    except Exception as error:
        _say(answers, {"problem": _problem(error)})
        return 1
    return 0


def _problem(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, ImportError):
        return "the package huggingface_hub is not installed here"
    if name in ("RepositoryNotFoundError", "GatedRepoError"):
        return "the hub has no such public repository"
    if name == "RevisionNotFoundError":
        return "the repository has no such revision"
    if "No space left" in str(error):
        return "no space is left on the disk"
    return f"the hub cannot be reached ({name}); {needs(error)}"


def needs(error: Exception) -> str:
    """What ``hf:`` lacks, by how reaching the hub failed: a network, or a setting that allows it."""
    if any(type(it).__name__ == "OfflineModeIsEnabled" for it in (error, error.__cause__)):
        return "hf: needs a network, and HF_HUB_OFFLINE keeps this service off it: start it with HF_HUB_OFFLINE=0"
    return "hf: needs a network"


if __name__ == "__main__":
    sys.exit(main())
