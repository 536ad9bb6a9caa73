"""Jobs that train together on one resident base, and the process that they do it in."""
