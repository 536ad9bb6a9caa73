"""Runs the whole suite on one machine: in order, watched, restarted, and gone without a trace when told so.

Invariant: no process of a suite outlives its supervisor, however that one ends.
"""

from services.ops.supervisor.launching import Suite, launch
from services.ops.supervisor.plan import Program, suite_programs
from services.ops.supervisor.supervise import Supervisor

__all__ = ["Program", "Suite", "Supervisor", "launch", "suite_programs"]
