"""Questions that are answered from sources: each stage of an answer is a module here, `asker` has them in their order."""
