"""A service of a few lines for the supervisor to run: real process, real health protocol.

`tiny.py NAME [--stillborn] [--unready] [--litter] [--deaf] [--slow]`: ends at once; never says that it
serves; leaves a process in a session of its own; ignores SIGTERM; takes a second to end.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

_States = health_pb2.HealthCheckResponse


def main() -> None:
    name, *flags = sys.argv[1:]
    data_dir = Path(os.environ["TRIVIUM_DATA_DIR"])
    with (data_dir / "history").open("a") as history:
        history.write(f"{name} begins\n")
    sys.stderr.write(f"{name} says hello\n")
    if "--stillborn" in flags:
        sys.exit(3)
    if "--litter" in flags:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (data_dir / "litter").write_text(str(child.pid))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if "--deaf" in flags else stop.set())
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    servicer.set("", _States.NOT_SERVING if "--unready" in flags else _States.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(os.environ[f"TRIVIUM_{name.upper()}_ADMIN_LISTEN"])
    server.start()
    while not stop.wait(0.05):
        pass
    time.sleep(1.0 if "--slow" in flags else 0.0)
    server.stop(0)
    with (data_dir / "history").open("a") as history:
        history.write(f"{name} ends\n")


if __name__ == "__main__":
    main()
