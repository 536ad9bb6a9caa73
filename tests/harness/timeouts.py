"""For how long a test waits for what must come at once.

A machine may stop for longer than ten seconds: a virtual one is paused, or memory comes back from its disk.  All timers are
due when it goes on, so a short limit ends a test in which nothing is wrong.  A long one costs seconds only where a test fails.
"""

HANG_SECONDS = 60.0
