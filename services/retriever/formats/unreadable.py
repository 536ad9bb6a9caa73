"""What a reader of a format raises: what is wrong with the document, and what to do.

It knows no service, because it is raised in the child process that reads.
"""


class Unreadable(Exception):
    """A document cannot be read.  ``problem`` completes "it could not be read: …", ``remedy`` is a sentence."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy


def damaged(what: str) -> Unreadable:
    """The failure of a file that is not what it should be."""
    return Unreadable(f"it is not a whole {what}", "Open it in the program that made it, save it anew, and send that.")
