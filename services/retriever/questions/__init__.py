"""Questions that chunks answer, written by the generator: another way to be near a question."""
