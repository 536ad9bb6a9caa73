"""What must not stand in any file of the repository, looked for in what git tracks.

Package indexes and places on one person's machine are the choice of whoever installs
and runs, `latest` is not a version, a check that is suppressed deserves a reason, and a
child process is told things by what knows that it may have ended.
"""

from __future__ import annotations

import re
import subprocess
import sys

from services.ops.cache import CHECKOUT

RULES = {
    "the address of a package index": re.compile(
        # The options, settings and lock fields of pip, uv, npm, Go and Maven that carry one.
        r"index[-_]url[ =\"']+\w+://|[\"']?\b(?:registry|resolved)[\"']?\s*[=:]\s*[\"']?https?://"
        r"|GOPROXY=\s*[\"']?http|<repositor[y]>"
    ),
    "a path of one machine": re.compile(r"(?<![\w.])/(?:work|home/\w+|root)/[\w.-]+"),
    "an unpinned version": re.compile(r"\w@lates[t]\b|\w:lates[t]\b"),
    "a suppressed check without a reason beside it": re.compile(
        r"#\s*(?:noqa|type:\s*ignore)\b(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])?\s*$"
    ),
}
# In the services alone, whose children are asyncio's: their loop is uvloop, the tests' is not.
SERVICES = ("services/", "gateway/")
RULES_OF_SERVICES = {
    "a write to a child that may have ended (chassis.processes has `say` and `ask`)": re.compile(
        r"\bstdin\.write(?:lines)?\(|await .*\.communicate\([^)]"
    ),
}
# `say` itself, and a child of subprocess, whose pipe tells in one way.
TELLERS = ("services/chassis/processes.py", "services/trainer/joint/encoder.py")
# Written by generators, which give no reasons.
GENERATED = ("clients/python/trivium/", "clients/python/buf/")
SKIPPED_SUFFIXES = (".binpb", ".png", ".safetensors", ".gguf")


def main() -> int:
    """Print `file:line: rule` for each breach; 1 if there is one."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = CHECKOUT / name
        if path.is_file() and not name.startswith(GENERATED) and not name.endswith(SKIPPED_SUFFIXES):
            found += breaches(name, path.read_text(errors="replace"))
    print("\n".join(found))
    return 1 if found else 0


def breaches(name: str, text: str) -> list[str]:
    """`file:line: rule` for each breach in the text of a file."""
    rules = RULES | RULES_OF_SERVICES if name.startswith(SERVICES) and name not in TELLERS else RULES
    return [
        f"{name}:{number}: {rule}"
        for number, line in enumerate(text.splitlines(), start=1)
        for rule, pattern in rules.items()
        if pattern.search(line)
    ]


if __name__ == "__main__":
    sys.exit(main())
