"""What the gateway costs: ``python -m tests.load.gateway [--part NAME ...]``.

Parts can be named; each tells on standard error how it goes, and the last line of the output is
JSON with every figure.  ``--scale`` makes all of it smaller: what it then prints shows that it
works, and no more.
"""

import argparse
import importlib
import json
import os
import subprocess

from tests.load.gateway.parts import Figures, say
from tests.load.machine import hardware

# By name, the module whose ``figures`` takes the scale; imported where it runs.
PARTS = {
    "edge": "edge",
    "isolation": "isolation",
    "streams": "open_streams",
    "chat": "chat",
    "rag": "rag",
    "open_loop": "open_loop",
    "replay": "replay",
    "batch": "batch",
}


def main() -> None:
    """Run the parts, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="can be given more than once; all without it")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the full size, up to 1")
    asked = parser.parse_args()
    outcome: Figures = {}
    for name in asked.part or PARTS:
        say(f"--- {name}")
        outcome |= importlib.import_module(f"tests.load.gateway.{PARTS[name]}").figures(asked.scale)
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "scale": asked.scale,
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in outcome.items()}
    print(json.dumps({"benchmark": "gateway", **about, **rounded}))


if __name__ == "__main__":
    main()
