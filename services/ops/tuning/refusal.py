"""What stops a training before or after it computes."""


class Untrainable(Exception):
    """It cannot be trained from what there is; the message says what to do, to the person who asked."""
