"""What a finished job leaves for its registration: files and facts under one name, whole or not there.

Invariant: a folder named `result` is complete and on disk.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from services.chassis.files import disk_full_named, publish, sync_tree
from services.trainer.tensor_files import system_errors
from services.trainer.work import RESULT, RESULT_MANIFEST

# Begins the name of a result that is being written.
TEMPORARY = "tmp-"


def publish_result(
    folder: Path,
    save: Callable[[Path], None],
    facts: Mapping[str, object],
    at: Callable[[str], None] = lambda _: None,
    *,
    require: Callable[[], object] = lambda: None,
) -> None:
    """Have `save` write the version's files, and give them with the facts their place in a job's `folder`.

    ``require`` raises whatever speaks against it at the last moment: that the job is another process's by now.
    Raises DISK_FULL; what was begun is removed then, and at the next call what a killed process left.
    """
    for left in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f"{TEMPORARY}{uuid4().hex}"
    try:
        with disk_full_named(folder), system_errors():
            temporary.mkdir()
            save(temporary)
            at("result written")
            (temporary / RESULT_MANIFEST).write_text(json.dumps(facts, sort_keys=True))
            sync_tree(temporary)
            at("result synced")
            require()
            shutil.rmtree(folder / RESULT, ignore_errors=True)
            publish(temporary, folder / RESULT)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    at("result published")
