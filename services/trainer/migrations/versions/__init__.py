"""The revisions of the trainer's schema, in order."""
