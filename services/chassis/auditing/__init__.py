"""Events of changes: made around the call, on this disk before its answer leaves, told to access from there."""
