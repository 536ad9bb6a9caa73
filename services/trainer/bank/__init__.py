"""The slot bank: one frozen base that trains many LoRA adapters at once, each as if it were alone.

It knows tensors and no jobs.  Invariant: nothing about a slot depends on which other segments share a pass with it,
nor on which slots exist; on a CPU that holds bit for bit, for one dtype and one thread count.
"""

from services.trainer.bank.bank import Bank
from services.trainer.bank.passes import Segment
from services.trainer.bank.scores import Scores
from services.trainer.bank.slot import Slot
from services.trainer.bank.spec import Initialisation, SlotSpec
from services.trainer.bank.updates import Update

__all__ = ["Bank", "Initialisation", "Scores", "Segment", "Slot", "SlotSpec", "Update"]
