"""Go programs and modules that lint and tests need, pinned, in the cache.

`python -m services.ops.gotools NAME...` installs programs into the cache's `bin`
and does nothing for those that are there.  A program carries the digest of what it is
made from: its module at its version, and the pin of the Go that builds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from services.ops.bootstrap import bootstrapped
from services.ops.cache import cache_dir

# What builds every program below.  Debian 12 packages 1.19, too old.
GO_MINIMUM = (1, 25)

PROGRAMS = {
    # Load on the gRPC door, for `make bench NAME=gateway`.
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.121.0",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
    # Load on the HTTP door, for `make bench NAME=gateway`.
    "k6": "go.k6.io/k6@v1.8.1",
    # An S3 server over a folder, for the tests of the registry's blobs.
    "versitygw": "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
    # The second index of the retriever; four minutes on two cores.
    "weaviate-server": "github.com/weaviate/weaviate/cmd/weaviate-server@v1.39.0",
}


def program(name: str) -> Path:
    """Return the Go program NAME of PROGRAMS, building it on first use (a minute or two)."""
    module = PROGRAMS[name]
    version = module.rpartition("@")[2]
    home = cache_dir() / "bin"
    versioned = home / f"{name}-{version}-{_inputs_digest(module)}"
    if not versioned.exists():
        print(f"building {name} {version} (a minute or two, once)", flush=True)
        build = home / f"build-{os.getpid()}"
        try:
            _go("install", module, GOBIN=str(build))
            (build / name).rename(versioned)
        finally:
            shutil.rmtree(build, ignore_errors=True)
    link = home / name
    if not link.exists() or link.resolve() != versioned.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(versioned.name)
    return link


def _inputs_digest(module: str) -> str:
    pin = Path(__file__).with_name("bootstrap-go.txt").read_bytes()
    return hashlib.sha256(module.encode() + b"\n" + pin).hexdigest()[:12]


def module_dir(module_at_version: str) -> Path:
    """Return the unpacked source of a Go module, downloading it on first use."""
    module, _, version = module_at_version.partition("@")
    unpacked = _module_cache() / f"{module}@{version}"
    # Go fills the folder before it writes the checksum beside the archive.
    archive = _module_cache() / "cache" / "download" / module / "@v" / f"{version}.ziphash"
    if unpacked.is_dir() and archive.exists():
        return unpacked
    reply = _go("mod", "download", "-json", module_at_version)
    return Path(json.loads(reply)["Dir"])


def _module_cache() -> Path:
    return cache_dir() / "go" / "mod"


def _go(*arguments: str, **environment: str) -> str:
    """Run go with its caches inside ours, and return what it printed."""
    settings = {
        "GOMODCACHE": str(_module_cache()),
        "GOCACHE": str(cache_dir() / "go" / "build"),
        "GOFLAGS": "-modcacherw",  # else the cache can only be deleted by go itself
        "GOTOOLCHAIN": "local",  # never download another toolchain behind our back
        **environment,
    }
    command = [str(_go_executable()), *arguments]
    # An empty folder, so that no go.mod or go.work of ours takes part.
    elsewhere = cache_dir() / "go"
    elsewhere.mkdir(parents=True, exist_ok=True)
    finished = subprocess.run(
        command, check=True, cwd=elsewhere, env={**os.environ, **settings}, stdout=subprocess.PIPE
    )
    return finished.stdout.decode()


def _go_executable() -> Path:
    present = shutil.which("go")
    if present:
        text = subprocess.run([present, "version"], check=True, capture_output=True).stdout.decode()
        found = re.search(r"go(\d+)\.(\d+)", text)
        if found and (int(found[1]), int(found[2])) >= GO_MINIMUM:
            return Path(present)
    return bootstrapped("go")


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(program(wanted))
