"""One measurement in this process: ``python -m tests.load.trainer.measurements NAME ARGUMENTS``.

The arguments are JSON, and so is the last line of the output.
"""

import json
import sys
from collections.abc import Callable, Mapping

import torch

from tests.load.trainer.floor import floor_figures
from tests.load.trainer.joint_speed import joint_figures
from tests.load.trainer.mixed_rates import mixed_rates
from tests.load.trainer.parts import Figures
from tests.load.trainer.trl_peer import trl_figures
from tests.load.trainer.workers import THREADS

MEASUREMENTS: Mapping[str, Callable[..., Figures]] = {
    "joint": joint_figures,
    "floor": floor_figures,
    "trl": trl_figures,
    "mixed": mixed_rates,
}

if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
