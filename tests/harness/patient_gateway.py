"""Prelude of a gateway that gives access the time that a machine which stalls needs.

As shipped, a gateway that access does not answer within a second goes on without it: limits that it has not heard of hold
nobody, and receipts wait on its disk.  A test of limits would then have none.  An access that is dead refuses at once all
the same.
"""

from gateway import receipts
from gateway.limits import accounts
from tests.harness.timeouts import HANG_SECONDS

accounts._CALL_SECONDS = HANG_SECONDS
receipts.RECORD_SECONDS = HANG_SECONDS
