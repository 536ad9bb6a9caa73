"""What a release to come would have left."""

import json

from services.trainer import checkpoints


def of_a_later_format(checkpoint: checkpoints.Checkpoint) -> None:
    """Make the checkpoint one of the next format."""
    manifest = checkpoint.folder / checkpoints.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": checkpoints.FORMAT + 1}))
