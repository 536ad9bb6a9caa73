"""What must not stand in any file of the repository, looked for in what git tracks.

Package indexes and places on one person's machine are the choice of whoever installs
and runs, and `latest` is not a version.
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
}
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
    breaches = []
    for name in filter(None, listing.stdout.split("\0")):
        path = CHECKOUT / name
        if name.endswith(SKIPPED_SUFFIXES) or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            breaches += [f"{name}:{number}: {rule}" for rule, pattern in RULES.items() if pattern.search(line)]
    print("\n".join(breaches))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
