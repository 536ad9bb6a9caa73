"""How the demo's adapter is trained and asked, in one place for the demo and for its trial."""

from typing import Final, TypedDict


class Recipe(TypedDict):
    """Settings of the demo's training job; everything else takes the trainer's default."""

    rank: int
    alpha: float
    epochs: int
    batch_rows: int
    learning_rate: float
    schedule: str
    seed: int


# One pass over the 200 pairs, many small steps: on a text this short a second pass teaches
# the notes by heart and not the copying of them.
RECIPE: Final[Recipe] = {
    "rank": 16,
    "alpha": 32.0,
    "epochs": 1,
    "batch_rows": 2,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "seed": 0,
}

# Sections put before the question.
SOURCES: Final = 2
