"""A folder has one trainer: two would register one job twice and take one another's files for leftovers."""

from dataclasses import replace

import pytest

from tests.contract.trainer.deployment import Caller, Deployment


def test_a_second_trainer_over_the_folder_ends_at_once_and_names_the_one_that_works_there(
    deployment: Deployment, caller: Caller
) -> None:
    listing = deployment.folder / "run" / "trainer.json"
    listed = listing.read_text()
    second = replace(deployment, processes={}, ports={})
    holder = deployment.processes["trainer"].pid
    try:
        with pytest.raises(AssertionError, match=rf"\b{holder}\b.*TRIVIUM_DATA_DIR"):
            second.start("trainer")
    finally:
        listing.write_text(listed)
    assert second.processes["trainer"].wait(30) == 1
    second.stop()
    caller.upload(b'{"prompt": "a", "completion": "b"}\n' * 2)
