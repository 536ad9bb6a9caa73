"""`make soak`: every test in full, in one command that can be interrupted and resumed."""
