"""Documents that are not plain text, to text: run in a limited child process on bytes that nobody vouches for."""
