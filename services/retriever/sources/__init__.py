"""Where documents are read from: the web and buckets."""
