"""files: files with a purpose, batches of requests, and the responses that conversations go on from."""
