"""What the limited child process does with untrusted files: read, judge, never execute.

This package imports the standard library only, and is run by
:mod:`services.registry.verification` under resource limits.  A refusal is an
:class:`Unfit` with a sentence for the user; everything else that goes wrong in
here ends the child, which the parent reports as a refusal too.
"""


class Unfit(Exception):
    """A file that is not what it must be.  The text is shown to the uploader."""
