"""What the release before this one left."""

import json
from pathlib import Path

from services.trainer import checkpoints
from services.trainer.joint.mismatching import PAIRING


def as_format_three(checkpoint: checkpoints.Checkpoint, root: Path) -> checkpoints.Checkpoint:
    """Write the checkpoint again below `root` as that release would have: it does not say what references are of."""
    state = checkpoints.load_state(checkpoint)
    del state[PAIRING]
    written = checkpoints.write(
        root, checkpoints.load_tensors(checkpoint), checkpoint.progress, {"torch": "x"}, state=state
    )
    manifest = written.folder / checkpoints.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 3}))
    found = checkpoints.newest(root)
    assert found is not None
    assert found.format == 3
    return found
