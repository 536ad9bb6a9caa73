"""A supervisor over tiny services: `tiny_suite.py FOLDER 'JSON list of {name, after, asks, flags, …_seconds}'`.

``ready_seconds`` is a service's own; of ``stop_seconds`` the shortest is everybody's.  Both are long unless given: on a
loaded machine everything takes its time.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path

from services.chassis.processes import die_with_parent
from services.ops.supervisor import record
from services.ops.supervisor.doors import settled
from services.ops.supervisor.plan import Program
from services.ops.supervisor.post import Patience
from services.ops.supervisor.supervise import Supervisor

TINY = Path(__file__).with_name("tiny.py")


async def supervised(folder: Path, wanted: list[dict]) -> int:
    programs = [
        Program(
            name=entry["name"],
            command=(sys.executable, str(TINY), entry["name"], *entry.get("flags", ())),
            after=tuple(entry.get("after", ())),
            asks=tuple(entry.get("asks", ())),
            ready_seconds=entry.get("ready_seconds", 200.0),
        )
        for entry in wanted
    ]
    doors = settled([program.name for program in programs], free=True)
    patience = Patience(
        first_pause_seconds=0.05,
        attempts=3,
        stop_seconds=min(entry.get("stop_seconds", 60.0) for entry in wanted),
        look_seconds=0.05,
        look_starting_seconds=0.02,
        sweep_seconds=0.1,
    )
    supervisor = Supervisor(programs, doors, folder, patience=patience)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    return await supervisor.run()


if __name__ == "__main__":
    die_with_parent()
    with record.held(Path(sys.argv[1])):
        sys.exit(asyncio.run(supervised(Path(sys.argv[1]), json.loads(sys.argv[2]))))
