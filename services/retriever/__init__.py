"""Documents in, exact passages out."""
