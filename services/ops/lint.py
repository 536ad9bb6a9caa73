"""`make lint`: every check on the text of the repository, one line each.

All of them run even when one fails, so that one run shows everything there is to
mend.  They run side by side, one a processor.  Output of a check is shown only when
it fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from services.ops.cache import CHECKOUT

TOOLS = Path(sys.executable).parent

# The longest first: it decides when all are done.
CHECKS = {
    "types (mypy --strict)": ["mypy", "--no-error-summary"],
    "imports (import-linter)": ["lint-imports", "--no-logo", "--no-cache"],
    "protos (buf) and stubs": ["python", "-m", "services.ops.protos", "--check"],
    "format (ruff format)": ["ruff", "format", "--quiet", "--check", "--output-format=concise", "."],
    "style (ruff check)": ["ruff", "check", "--quiet", "--output-format=concise", "."],
    "files (house rules)": ["python", "-m", "services.ops.house_rules"],
}


def ran(command: list[str], checkout: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    """A check's command, run on a checkout; its output and errors are one text."""
    # The import linter looks at the packages that Python finds, and the environment may be linked to another checkout.
    sources = os.pathsep.join(map(str, (checkout, checkout / "clients" / "python")))
    return subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": sources},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> int:
    """Run the checks, or those whose name starts with an argument; 1 if one fails, 2 if an argument names none."""
    wanted = tuple(sys.argv[1:]) or ("",)
    if unknown := [start for start in wanted if not any(name.startswith(start) for name in CHECKS)]:
        print(f"no check begins with {unknown[0]!r}; there are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    chosen = {name: command for name, command in CHECKS.items() if name.startswith(wanted)}
    failed = False
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as processors:
        for check in as_completed(processors.submit(_timed, *entry) for entry in chosen.items()):
            name, finished, seconds = check.result()
            verdict = "failed" if finished.returncode else "ok"
            print(f"{name:26} {verdict:6} {seconds:5.1f} s", flush=True)
            if finished.returncode:
                failed = True
                print(finished.stdout.rstrip(), flush=True)
    return 1 if failed else 0


def _timed(name: str, command: list[str]) -> tuple[str, subprocess.CompletedProcess[str], float]:
    begun = time.monotonic()
    finished = ran(command)
    return name, finished, time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
