"""Prelude of a trainer that was forked from `tests.tied`'s process for it: its processes are forks as well."""

from services.chassis import processes
from tests.forked_workers import Mother

processes.spawn = Mother().spawn
