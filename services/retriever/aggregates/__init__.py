"""Questions about a whole collection that have one right answer: how many, which, by what."""
