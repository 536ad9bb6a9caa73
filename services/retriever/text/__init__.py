"""From a text to its blocks, chunks and keywords."""
